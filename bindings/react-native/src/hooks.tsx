/** What screens are made of. Each hook shows what is on this device now and follows it. */
import { createContext, useCallback, useContext, useEffect, useMemo, useRef, useState } from 'react';
import type { ReactNode } from 'react';
import { AppState } from 'react-native';
import { Device, PAGE } from './device';
import { asDeltaError } from './errors';
import type { DeltaError } from './errors';
import type { Connection, DirectThread, Event, Message, OperationId, Room, Space, TopicId, TopicStatus, Trouble, Unread } from './types';

/** Most messages that `useMessages` shows; a page of the bindings is no longer. */
export const MOST_SHOWN = 1000;

const Current = createContext<Device | null>(null);

/** Gives the hooks below it their device. */
export function DeviceProvider({ device, children }: { device: Device; children: ReactNode }) {
  return <Current.Provider value={device}>{children}</Current.Provider>;
}

/** The device of the nearest provider. */
export function useDevice(): Device {
  const device = useContext(Current);
  if (!device) throw new Error('hooks of Delta are used below a <DeviceProvider>');
  return device;
}

/** What `useMessages` shows. */
export type Messages = {
  /** Oldest first. */
  messages: Message[];
  /** Until the first page is here. */
  loading: boolean;
  error: DeltaError | null;
  /** Whether older ones may be there. */
  hasOlder: boolean;
  loadOlder: () => void;
};

/** The newest messages of a room (its topic), and older ones as they are asked for. */
export function useMessages(room: TopicId, page = PAGE): Messages {
  const device = useDevice();
  // Of the room it was asked for: another room begins anew.
  const [asked, setAsked] = useState({ room, pages: 1 });
  const pages = asked.room === room ? asked.pages : 1;
  const limit = Math.min(page * pages, MOST_SHOWN);
  const read = useCallback(() => device.messages(room, { kind: 'newest' }, limit), [device, room, limit]);
  const { value, error } = useQuery(room, read, shows);
  const messages = value ?? NONE;
  const hasOlder = messages.length === limit && limit < MOST_SHOWN;
  const loadOlder = useCallback(() => setAsked({ room, pages: pages + 1 }), [room, pages]);
  return { messages, loading: value === null && error === null, error, hasOlder, loadOlder };
}

/** Sends to a room: resolves when the message is safe on this device, whether or not there is a network. */
export function useSend(room: TopicId): (text: string, reply?: OperationId) => Promise<OperationId> {
  const device = useDevice();
  return useCallback((text, reply) => device.send(room, text, reply === undefined ? {} : { reply }), [device, room]);
}

/** Where a topic stands, or null until that is known. */
export function useStatus(topic: TopicId): { status: TopicStatus | null; error: DeltaError | null } {
  const device = useDevice();
  const read = useCallback(() => device.status(topic), [device, topic]);
  const { value, error } = useQuery(topic, read, always);
  return { status: value, error };
}

/** The connection of a topic. */
export function useConnection(topic: TopicId): Connection {
  return useStatus(topic).status?.connection ?? 'offline';
}

/** What `useOutbox` shows. */
export type OutboxState = {
  queued: number;
  sent: number;
  parked: number;
  /** All three. */
  waiting: number;
  /** Why nothing is sent, if nothing can be. */
  trouble: Trouble | null;
};

/** Own operations of a topic that no server has taken yet. */
export function useOutbox(topic: TopicId): OutboxState {
  const { status } = useStatus(topic);
  return useMemo(() => {
    const { queued, sent, parked } = status?.outbox ?? { queued: 0, sent: 0, parked: 0 };
    return { queued, sent, parked, waiting: queued + sent + parked, trouble: status?.blocked ?? null };
  }, [status]);
}

/** What of a room was not read yet, and what marks a message and all before it as read. */
export function useUnread(room: TopicId): Unread & { markRead: (upto: Message) => Promise<void> } {
  const device = useDevice();
  const read = useCallback(() => device.unread(room), [device, room]);
  const { value } = useQuery(room, read, shows);
  const [marked, setMarked] = useState<{ room: TopicId; unread: Unread } | null>(null);
  // Marking is this device's own: no event tells of it. An answer that comes later counts again.
  useEffect(() => setMarked(null), [value]);
  const markRead = useCallback(
    async (upto: Message) => {
      await device.setRead(room, upto.position);
      setMarked({ room, unread: await device.unread(room) });
    },
    [device, room],
  );
  const unread = (marked?.room === room ? marked.unread : null) ?? value ?? { messages: 0, mentions: 0 };
  return { ...unread, markRead };
}

/** The rooms of a space. */
export function useRooms(space: Space): Room[] {
  const device = useDevice();
  const read = useCallback(() => device.rooms(space.space), [device, space.space]);
  // A space without a topic here is not heard of.
  const { value } = useQuery(space.topic ?? null, read, shows);
  return value ?? NO_ROOMS;
}

/** All direct threads, requests included, oldest first; `inbox` is what `openInbox` gave, or null until then. */
export function useDirectThreads(inbox: TopicId | null): DirectThread[] {
  const device = useDevice();
  const read = useCallback(() => device.directThreads(), [device]);
  const { value } = useQuery(inbox, read, shows);
  return value ?? NO_THREADS;
}

/** The topics of this device; `reload` after one was opened. */
export function useTopics(): { topics: TopicId[]; error: DeltaError | null; reload: () => void } {
  const device = useDevice();
  const [topics, setTopics] = useState<TopicId[]>([]);
  const [error, setError] = useState<DeltaError | null>(null);
  const [round, setRound] = useState(0);
  useEffect(() => {
    let wanted = true;
    device.topics().then(
      (found) => wanted && (setTopics(found), setError(null)),
      (failed: unknown) => wanted && setError(asDeltaError(failed)),
    );
    return () => {
      wanted = false;
    };
  }, [device, round]);
  return { topics, error, reload: useCallback(() => setRound((before) => before + 1), []) };
}

/**
 * Suspends the device while the app is in the background, after a last run of at most `lastRun` milliseconds, and resumes
 * it at the front. Says what went wrong, if anything did. iOS is asked for the time, and gives it up to half a minute.
 */
export function useLifecycle(device: Device, lastRun = 5000): DeltaError | null {
  const [error, setError] = useState<DeltaError | null>(null);
  useEffect(() => {
    // One after the other: a quick switch there and back ends at the front.
    let last: Promise<unknown> = Promise.resolve();
    let state = AppState.currentState;
    const follow = (next: string) => {
      if (next === state || next === 'inactive') return;
      state = next as typeof state;
      last = last.then(() => change(device, next, () => state === next, lastRun)).then(
        () => setError(null),
        (failed: unknown) => setError(asDeltaError(failed)),
      );
    };
    const heard = AppState.addEventListener('change', follow);
    return () => heard.remove();
  }, [device, lastRun]);
  return error;
}

async function change(device: Device, next: string, still: () => boolean, lastRun: number): Promise<void> {
  if (next === 'active') return device.resume();
  if (!still()) return;
  // What counts is that the files are let go of, however the run ended: a phone ends apps that hold them while they sleep.
  const failed = await device.runOnce(lastRun).then(() => null, asDeltaError);
  await device.suspend();
  // Without a network there was nothing to run.
  if (failed && failed.code !== 'no_network') throw failed;
}

const NONE: Message[] = [];
const NO_ROOMS: Room[] = [];
const NO_THREADS: DirectThread[] = [];

/** Whether a list of messages may look different now. */
function shows(event: Event): boolean {
  return event.kind === 'changed' || event.kind === 'acknowledged' || resets(event);
}

/** Whether anything may. */
function always(event: Event): boolean {
  return event.kind !== 'signal' && event.kind !== 'signalSent';
}

function resets(event: Event): boolean {
  return event.kind === 'reset' || event.kind === 'lagged' || event.kind === 'moved';
}

/** Asks again after each event that matters; one question at a time, and one more when something came meanwhile. */
function useQuery<T>(topic: TopicId | null, read: () => Promise<T>, matters: (event: Event) => boolean) {
  const device = useDevice();
  type Answer = { device: Device; topic: TopicId | null; value: T | null; error: DeltaError | null };
  const [answer, setAnswer] = useState<Answer | null>(null);
  const ask = useRef<() => void>(() => {});
  useEffect(() => {
    let wanted = true;
    let asking = false;
    let again = false;
    const told = (value: T | null, error: DeltaError | null) => {
      if (!wanted) return;
      setAnswer((before) => ({ device, topic, value: value ?? kept(before, device, topic), error }));
      asking = false;
      if (again) ask.current();
    };
    ask.current = () => {
      again = asking;
      if (asking || !wanted) return;
      asking = true;
      read().then(
        (value) => told(value, null),
        (error: unknown) => told(null, asDeltaError(error)),
      );
    };
    ask.current();
    return () => {
      wanted = false;
    };
  }, [read, device, topic]);
  useEffect(() => {
    if (topic === null) return undefined;
    const failed = (error: DeltaError) =>
      setAnswer((before) => ({ device, topic, value: kept(before, device, topic), error }));
    return device.listen(topic, (event) => matters(event) && ask.current(), failed);
  }, [device, topic, matters]);
  // An answer for another topic, or of another device, is none.
  return answer?.device === device && answer.topic === topic ? answer : { value: null, error: null };
}

/** What was answered before, if it was to the same question. */
function kept<T>(
  before: { device: Device; topic: TopicId | null; value: T | null } | null, device: Device, topic: TopicId | null,
): T | null {
  return before?.device === device && before.topic === topic ? before.value : null;
}
