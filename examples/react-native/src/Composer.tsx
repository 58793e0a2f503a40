/** Writes a message. It is safe on this device when the field is empty again, with or without a network. */
import { useState } from 'react';
import { StyleSheet, Text, TextInput, View } from 'react-native';
import { asDeltaError, useSend } from 'delta-react-native';
import type { TopicId } from 'delta-react-native';
import { Button } from './Button';
import { useTheme } from './theme';

export function Composer({ room }: { room: TopicId }) {
  const theme = useTheme();
  const send = useSend(room);
  const [text, setText] = useState('');
  const [problem, setProblem] = useState<string | null>(null);
  const [sending, setSending] = useState(false);
  const empty = text.trim() === '';
  const submit = async () => {
    // Once per text, however fast somebody presses.
    if (empty || sending) return;
    setSending(true);
    try {
      await send(text);
      setText('');
      setProblem(null);
    } catch (error) {
      // The text stays: nothing of a call that failed was done.
      setProblem(asDeltaError(error).message);
    } finally {
      setSending(false);
    }
  };
  return (
    <View style={[styles.composer, { borderColor: theme.line }]}>
      {problem && (
        <Text accessibilityRole="alert" style={{ color: theme.warning }}>
          {problem}
        </Text>
      )}
      <View style={styles.row}>
        <TextInput
          accessibilityLabel="Message"
          placeholder="Message"
          placeholderTextColor={theme.faint}
          value={text}
          onChangeText={setText}
          onSubmitEditing={() => void submit()}
          blurOnSubmit={false}
          style={[styles.field, { color: theme.text, borderColor: theme.line, backgroundColor: theme.raised }]}
        />
        <Button label="Send" onPress={() => void submit()} disabled={empty || sending} />
      </View>
    </View>
  );
}

const styles = StyleSheet.create({
  composer: { borderTopWidth: 1, padding: 12, gap: 8 },
  row: { flexDirection: 'row', gap: 8 },
  field: { flex: 1, minWidth: 0, borderWidth: 1, borderRadius: 8, padding: 12, fontSize: 16 },
});
