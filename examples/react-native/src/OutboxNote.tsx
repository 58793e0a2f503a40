/** What has not left this device yet, and why. Nothing is shown when there is nothing to say. */
import { StyleSheet, Text } from 'react-native';
import { useOutbox } from 'delta-react-native';
import type { TopicId } from 'delta-react-native';
import { useTheme } from './theme';

export function OutboxNote({ room }: { room: TopicId }) {
  const theme = useTheme();
  const { waiting, parked, trouble } = useOutbox(room);
  if (waiting === 0 && trouble === null) return null;
  const count = waiting === 1 ? '1 message waits' : `${waiting} messages wait`;
  const why = trouble === null ? '' : `: ${trouble.reason}`;
  return (
    <Text
      accessibilityLiveRegion="polite"
      testID="outbox"
      style={[styles.note, { color: parked > 0 || trouble ? theme.warning : theme.faint }]}
    >
      {waiting > 0 ? `${count} to be sent${why}` : `Nothing can be sent${why}`}
    </Text>
  );
}

const styles = StyleSheet.create({ note: { paddingHorizontal: 16, paddingVertical: 6 } });
