/** Where a conversation's connection stands, in a word. */
import { StyleSheet, Text, View } from 'react-native';
import { useConnection } from 'delta-react-native';
import type { Connection, TopicId } from 'delta-react-native';
import { useTheme } from './theme';

const WORDS: Record<Connection, string> = {
  offline: 'Offline',
  parked: 'Resting',
  connecting: 'Connecting',
  replaying: 'Catching up',
  live: 'Live',
};

export function ConnectionBadge({ room }: { room: TopicId }) {
  const theme = useTheme();
  const connection = useConnection(room);
  const colour = connection === 'live' ? theme.good : connection === 'offline' ? theme.warning : theme.faint;
  return (
    <View
      accessibilityLiveRegion="polite"
      accessibilityLabel={`Connection: ${WORDS[connection]}`}
      testID="connection"
      style={[styles.badge, { borderColor: colour }]}
    >
      <Text style={{ color: colour }}>{WORDS[connection]}</Text>
    </View>
  );
}

const styles = StyleSheet.create({
  badge: { borderWidth: 1, borderRadius: 12, paddingHorizontal: 10, paddingVertical: 2 },
});
