/** The conversations of this device, each with its newest message; starts one or joins one by its ticket. */
import { useState } from 'react';
import { FlatList, Pressable, StyleSheet, Text, TextInput, View } from 'react-native';
import { asDeltaError, generateTicket, useDevice, useMessages, useOutbox, useTopics, useUnread } from 'delta-react-native';
import type { Message, TopicId } from 'delta-react-native';
import { Button } from './Button';
import { ConnectionBadge } from './ConnectionBadge';
import { useTheme } from './theme';

export function ChatList({ onOpen }: { onOpen: (room: TopicId) => void }) {
  const theme = useTheme();
  const { topics, error, reload } = useTopics();
  return (
    <View style={styles.screen}>
      <Text accessibilityRole="header" style={[styles.title, { color: theme.text }]}>
        Conversations
      </Text>
      {error && (
        <Text accessibilityRole="alert" style={[styles.note, { color: theme.warning }]}>
          {error.message}
        </Text>
      )}
      <FlatList
        data={topics}
        keyExtractor={(topic) => topic}
        renderItem={({ item }) => <Row room={item} onOpen={onOpen} />}
        ListEmptyComponent={
          <Text style={[styles.note, { color: theme.faint }]}>None yet. Start one, or join one by its ticket.</Text>
        }
      />
      <Join onJoined={reload} />
    </View>
  );
}

function Row({ room, onOpen }: { room: TopicId; onOpen: (room: TopicId) => void }) {
  const theme = useTheme();
  const { messages } = useMessages(room, 1);
  const { waiting } = useOutbox(room);
  const unread = useUnread(room).messages;
  const newest = preview(messages.at(-1));
  return (
    <Pressable
      accessibilityRole="button"
      accessibilityLabel={`Conversation ${name(room)}, ${unread > 0 ? `${unread} new, ` : ''}${newest}`}
      onPress={() => onOpen(room)}
      style={[styles.row, { borderColor: theme.line }]}
    >
      <View style={styles.words}>
        <Text style={[styles.name, { color: theme.text }]}>{name(room)}</Text>
        <Text numberOfLines={1} style={{ color: theme.faint }}>
          {newest}
        </Text>
      </View>
      {unread > 0 && <Text style={[styles.name, { color: theme.accent }]}>{unread} new</Text>}
      {waiting > 0 && <Text style={{ color: theme.faint }}>{waiting} waiting</Text>}
      <ConnectionBadge room={room} />
    </Pressable>
  );
}

function Join({ onJoined }: { onJoined: () => void }) {
  const theme = useTheme();
  const device = useDevice();
  const [ticket, setTicket] = useState('');
  const [problem, setProblem] = useState<string | null>(null);
  const join = async (found: Promise<string>) => {
    try {
      await device.openTopic(await found);
      setTicket('');
      setProblem(null);
      onJoined();
    } catch (error) {
      setProblem(asDeltaError(error).message);
    }
  };
  const paste = () => ticket.trim() !== '' && void join(Promise.resolve(ticket));
  return (
    <View style={[styles.join, { borderColor: theme.line }]}>
      {problem && (
        <Text accessibilityRole="alert" style={{ color: theme.warning }}>
          {problem}
        </Text>
      )}
      <TextInput
        accessibilityLabel="Ticket"
        placeholder="Ticket"
        placeholderTextColor={theme.faint}
        autoCapitalize="none"
        autoCorrect={false}
        value={ticket}
        onChangeText={setTicket}
        onSubmitEditing={paste}
        blurOnSubmit={false}
        style={[styles.ticket, { color: theme.text, borderColor: theme.line, backgroundColor: theme.raised }]}
      />
      <View style={styles.buttons}>
        <Button label="Join" onPress={paste} disabled={ticket.trim() === ''} />
        <Button label="New conversation" onPress={() => void join(generateTicket())} />
      </View>
    </View>
  );
}

/** The first digits tell conversations apart; names are what spaces and profiles are for. */
export function name(room: TopicId): string {
  return room.slice(0, 8);
}

function preview(message: Message | undefined): string {
  if (!message) return 'No messages yet';
  return message.deleted ? 'Taken back' : (message.text ?? '');
}

const styles = StyleSheet.create({
  screen: { flex: 1 },
  title: { fontSize: 24, fontWeight: '600', padding: 16 },
  note: { padding: 16, fontSize: 15 },
  row: { flexDirection: 'row', alignItems: 'center', gap: 12, padding: 16, minHeight: 64, borderBottomWidth: 1 },
  words: { flex: 1, minWidth: 0 },
  name: { fontSize: 17, fontWeight: '600' },
  join: { borderTopWidth: 1, padding: 12, gap: 8 },
  ticket: { borderWidth: 1, borderRadius: 8, padding: 12, fontSize: 16 },
  buttons: { flexDirection: 'row', flexWrap: 'wrap', gap: 8 },
});
