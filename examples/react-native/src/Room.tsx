/** One conversation: its messages, the newest at the bottom, what waits to be sent, and the composer. */
import { useEffect } from 'react';
import { FlatList, KeyboardAvoidingView, Platform, StyleSheet, Text, View } from 'react-native';
import { useDevice, useMessages, useUnread } from 'delta-react-native';
import type { Message, TopicId } from 'delta-react-native';
import { Button } from './Button';
import { name } from './ChatList';
import { Composer } from './Composer';
import { ConnectionBadge } from './ConnectionBadge';
import { OutboxNote } from './OutboxNote';
import { useTheme } from './theme';

export function Room({ room, onBack }: { room: TopicId; onBack: () => void }) {
  const theme = useTheme();
  const { messages, loading, error, hasOlder, loadOlder } = useMessages(room);
  const { markRead } = useUnread(room);
  const newest = messages.at(-1);
  useEffect(() => {
    // What is shown was read. That it cannot be noted now (suspended, say) is no reason to disturb anybody.
    if (newest) markRead(newest).catch(() => {});
  }, [newest?.id, markRead]);
  return (
    <KeyboardAvoidingView behavior={Platform.OS === 'ios' ? 'padding' : undefined} style={styles.screen}>
      <View style={[styles.bar, { borderColor: theme.line }]}>
        <Button label="Back" onPress={onBack} />
        <Text accessibilityRole="header" numberOfLines={1} style={[styles.title, { color: theme.text }]}>
          {name(room)}
        </Text>
        <ConnectionBadge room={room} />
      </View>
      {error && (
        <Text accessibilityRole="alert" style={[styles.note, { color: theme.warning }]}>
          {error.message}
        </Text>
      )}
      <FlatList
        inverted
        data={[...messages].reverse()}
        keyExtractor={(message) => message.id}
        renderItem={({ item }) => <Bubble message={item} />}
        onEndReached={hasOlder ? loadOlder : null}
        style={styles.list}
      />
      {messages.length === 0 && !loading && (
        <Text style={[styles.note, { color: theme.faint }]}>No messages yet</Text>
      )}
      <OutboxNote room={room} />
      <Composer room={room} />
    </KeyboardAvoidingView>
  );
}

function Bubble({ message }: { message: Message }) {
  const theme = useTheme();
  const own = message.author === useDevice().author;
  const marks = [
    own ? 'You' : name(message.author as string as TopicId),
    message.editedAt === undefined ? null : 'edited',
    own && !message.acknowledged ? 'waiting' : null,
  ];
  return (
    <View
      testID="message"
      style={[styles.bubble, own ? styles.own : styles.theirs, { backgroundColor: theme.raised }]}
    >
      <Text style={[styles.marks, { color: theme.faint }]}>{marks.filter(Boolean).join(' · ')}</Text>
      <Text style={[styles.text, { color: message.deleted ? theme.faint : theme.text }]}>
        {message.deleted ? 'Taken back' : message.text}
      </Text>
    </View>
  );
}

const styles = StyleSheet.create({
  screen: { flex: 1 },
  bar: { flexDirection: 'row', alignItems: 'center', gap: 12, padding: 12, borderBottomWidth: 1 },
  title: { flex: 1, minWidth: 0, fontSize: 18, fontWeight: '600' },
  note: { padding: 16, fontSize: 15 },
  list: { flex: 1 },
  bubble: { maxWidth: '85%', margin: 8, padding: 10, borderRadius: 12 },
  own: { alignSelf: 'flex-end' },
  theirs: { alignSelf: 'flex-start' },
  marks: { fontSize: 13 },
  text: { fontSize: 16 },
});
