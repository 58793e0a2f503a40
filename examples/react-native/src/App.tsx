/** Opens the device, then shows the list of conversations or one of them. */
import { useEffect, useState } from 'react';
import { SafeAreaView, StyleSheet, Text, View } from 'react-native';
import { Device, DeviceProvider, asDeltaError, useLifecycle } from 'delta-react-native';
import type { TopicId } from 'delta-react-native';
import { ChatList } from './ChatList';
import { Room } from './Room';
import { development, network } from './network';
import { useTheme } from './theme';

export function App() {
  const theme = useTheme();
  const { device, problem } = useOpened();
  return (
    <SafeAreaView style={[styles.app, { backgroundColor: theme.ground }]}>
      {problem !== null && (
        <Text accessibilityRole="alert" style={[styles.note, { color: theme.warning }]}>
          {problem}
        </Text>
      )}
      {device ? (
        <DeviceProvider device={device}>
          <Screens device={device} />
        </DeviceProvider>
      ) : (
        problem === null && <Text style={[styles.note, { color: theme.faint }]}>Opening…</Text>
      )}
    </SafeAreaView>
  );
}

function Screens({ device }: { device: Device }) {
  const theme = useTheme();
  const [room, setRoom] = useState<TopicId | null>(null);
  const stuck = useLifecycle(device);
  return (
    <View style={styles.app}>
      {stuck && (
        <Text accessibilityRole="alert" style={[styles.note, { color: theme.warning }]}>
          {stuck.message}
        </Text>
      )}
      {room === null ? <ChatList onOpen={setRoom} /> : <Room room={room} onBack={() => setRoom(null)} />}
    </View>
  );
}

/** The device of this app, closed with the screen. What is wrong with the network does not keep it from opening. */
function useOpened(): { device: Device | null; problem: string | null } {
  const [device, setDevice] = useState<Device | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => {
    const opening = Device.open({ name: 'main', allowPlaintext: development });
    const show = (error: unknown) => setProblem(asDeltaError(error).message);
    opening.then(async (opened) => {
      setDevice(opened);
      if (network === null) return;
      const skipped = await opened.initSync(network.hops, network.syncUrl);
      if (skipped.length > 0) setProblem(`left out: ${skipped.join(', ')}`);
    }).catch(show);
    return () => void opening.then((opened) => opened.close()).catch(show);
  }, []);
  return { device, problem };
}

const styles = StyleSheet.create({
  app: { flex: 1 },
  note: { padding: 12, fontSize: 15 },
});
