/** What every language runs, against real relays and a real sync server: the facade over the Android module on the JVM. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import {
  Device, DeltaError, generateMnemonic, generateTicket, identityAddress, importMnemonic, mnemonicIdentity, parseAddress,
  readOnlyTicket, storedMnemonic, ticketFacts,
} from '../src';
import type { Event, Identity, LogLine, OperationId, RelayHops, SpaceAction, TopicId } from '../src';
import { Bridge } from './bridge';
import { setModule } from './stand-in/react-native';

/** Reaching it is a failure, never a pass. */
const timeout = 120_000;

type Facts = { sync: string; directory: string; records: string; trust: string; pids: Record<string, number> };

let folder: string;
let servers: ReturnType<typeof spawn>;
let facts: Facts;
let bridge: Bridge;

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'delta-'));
  const program = join(process.env.DELTA_PROGRAMS ?? '', 'delta');
  servers = spawn(program, ['demo', '--serve', '--json', '--keep', join(folder, 'network')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  facts = await new Promise((told) => createInterface(servers.stdout!).once('line', (line) => told(JSON.parse(line))));
  bridge = new Bridge(join(folder, 'app'));
  setModule(bridge.module);
});

after(async () => {
  await bridge?.close();
  const ended = new Promise((done) => servers.once('exit', done));
  servers.stdin?.end();
  await ended;
  rmSync(folder, { recursive: true });
});

function hops(): RelayHops {
  const [list, records] = [readFileSync(facts.directory, 'utf8'), readFileSync(facts.records, 'utf8')];
  return { kind: 'directory', list, records, trustedKeys: [facts.trust as never], threshold: 1 };
}

/** All of them hang, or go on. */
function signal(name: 'SIGSTOP' | 'SIGCONT'): void {
  Object.values(facts.pids).forEach((pid) => process.kill(pid, name));
}

const open = (name: string) => Device.open({ name, allowPlaintext: true, mergeChangesMs: 0 });

async function joined(name: string, ticket: string): Promise<[Device, TopicId]> {
  const device = await open(name);
  assert.deepEqual(await device.initSync(hops(), facts.sync), []);
  return [device, await device.openTopic(ticket)];
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((done) => setTimeout(done, 20));
}

const untilTexts = (device: Device, topic: TopicId, ...texts: string[]) =>
  until(async () => {
    const shown = (await device.messages(topic)).filter((one) => one.acknowledged).map((one) => one.text);
    return JSON.stringify(shown.sort()) === JSON.stringify(texts.sort());
  });

async function refused(call: Promise<unknown>, kind: string, code: string): Promise<void> {
  await assert.rejects(call, (error: unknown) => {
    assert.ok(error instanceof DeltaError, String(error));
    assert.deepEqual([error.kind, error.code], [kind, code]);
    assert.ok(error.reason);
    return true;
  });
}

/** Processes that have a file of the database open. */
function holders(name: string): string[] {
  const path = join(folder, 'app', 'delta', `${name}.db`);
  const files = (pid: string) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).map((fd) => {
        try {
          return readlinkSync(`/proc/${pid}/fd/${fd}`);
        } catch {
          return '';
        }
      });
    } catch {
      return [];
    }
  };
  const pids = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid));
  return pids.filter((pid) => files(pid).some((file) => file.startsWith(path)));
}

test('two devices meet in a space, talk, go offline, come back, suspend, resume and close', { timeout }, async () => {
  const [alice, bob] = [await open('alice'), await open('bob')];
  for (const device of [alice, bob]) assert.deepEqual(await device.initSync(hops(), facts.sync), []);
  const made = await alice.createSpace({ name: 'Kitchen' });
  const room = await alice.createRoom(made.log, { name: 'Dinner' });
  const topic = room.topic;
  const heard: Event[] = [];
  const stops = [alice.listen(made.topic, () => {}), alice.listen(topic, (event) => heard.push(event))];
  const space = await bob.acceptInvitation(await alice.createInvitation(made.log, 'write'));
  assert.equal(space.log, made.log);
  stops.push(bob.listen(space.topic, () => {}));
  await until(async () => (await bob.rooms(made.log)).some((one) => one.topic));
  const [seen] = await bob.rooms(made.log);
  assert.equal(seen?.room, room.log);
  const there = seen!.topic!;
  stops.push(bob.listen(there, () => {}));
  const levels = (await alice.members(made.log)).map((one) => [one.member as string, one.level]);
  assert.deepEqual(levels.sort(), [[alice.author as string, 'manage'], [bob.author as string, 'write']].sort());

  const sent = await alice.send(topic, 'hello');
  await untilTexts(bob, there, 'hello');
  const [received] = await bob.messages(there);
  assert.deepEqual([received?.id, received?.author], [sent, alice.author]);
  await bob.send(there, 'hello yourself');
  assert.ok(heard.some((event) => event.kind === 'changed' && event.changes.some((change) => change.ids.includes(sent))));
  assert.ok(heard.some((event) => event.kind === 'connectionChanged' && event.connection === 'live'));

  // Heard by herself, too: nothing of hers is on its way.
  await untilTexts(alice, topic, 'hello', 'hello yourself');
  // Offline: what is said meanwhile waits, and arrives once.
  signal('SIGSTOP');
  try {
    alice.networkChanged();
    const away = await alice.send(topic, 'while away');
    const { outbox } = await alice.status(topic);
    assert.ok(outbox.queued + outbox.sent >= 1);
    assert.ok((await alice.outbox(topic)).some((row) => row.operation === away));
  } finally {
    signal('SIGCONT');
  }
  alice.networkChanged();
  await untilTexts(bob, there, 'hello', 'hello yourself', 'while away');

  // Suspended: nothing is held.
  await alice.suspend();
  assert.deepEqual(holders('alice'), []);
  await refused(alice.send(topic, 'too late'), 'state', 'suspended');
  await bob.send(there, 'good night');
  await alice.resume();
  assert.equal(holders('alice').length, 1);
  await untilTexts(alice, topic, 'hello', 'hello yourself', 'while away', 'good night');
  assert.ok((await alice.statistics()).operations >= 4);

  await bob.suspend();
  const summary = await bob.runOnce(timeout);
  assert.ok(summary.complete, JSON.stringify(summary));
  assert.equal(await bob.nextWakeupAt(), null);
  await alice.close();
  await alice.close();
  assert.deepEqual(holders('alice'), []);
  await until(async () => heard.at(-1)?.kind === 'closed');
  stops.forEach((stop) => stop());
  await bob.close();
});

test('case_69 a reload closes everything, and the databases open again at once', { timeout }, async () => {
  const before = await open('reloaded');
  await refused(open('reloaded'), 'device', 'database_locked');
  const topic = await before.openTopic(await generateTicket());
  before.listen(topic, () => {});
  await before.send(topic, 'kept');
  await bridge.reload();
  assert.deepEqual(holders('reloaded'), []);
  const again = await open('reloaded');
  assert.deepEqual([again.author, again.renewed], [before.author, false]);
  assert.deepEqual((await again.messages(topic)).map((one) => one.text), ['kept']);
  await again.close();
});

test('case_67 what cannot be used is refused with its code', { timeout }, async () => {
  const device = await open('misused');
  const topic = await device.openTopic(await generateTicket());
  await refused(device.openTopic('no ticket'), 'argument', 'ticket');
  await refused(device.send('abc' as TopicId, 'x'), 'argument', 'id');
  await refused(device.send('abcd' as TopicId, 'x'), 'argument', 'id');
  await refused(device.send('00'.repeat(32) as TopicId, 'x'), 'state', 'unknown_topic');
  await refused(device.send(topic, 'x'.repeat(64 * 1024 + 1)), 'argument', 'content');
  await refused(device.runOnce(1000), 'state', 'no_network');
  await refused(device.signal(topic, '%'), 'argument', 'native');
  await refused(device.publish(topic, { kind: 'nonsense' } as never), 'argument', 'native');
  // What is of another type was not left out.
  await refused(device.send(topic, 'x', { reply: 5 as never }), 'argument', 'native');
  await refused(device.send(topic, 'x', { mentions: [5 as never] }), 'argument', 'native');
  await refused(device.search({ words: 'x', since: 'yesterday' as never }), 'argument', 'native');
  await refused(Device.open({ name: 'more', allowPlaintext: 'yes' as never }), 'argument', 'native');
  await refused(Device.open({ name: 'more', proxy: 'ftp://127.0.0.1:1' }), 'argument', 'proxy');
  for (const name of ['', '../up', 'x'.repeat(65)]) await refused(open(name), 'argument', 'name');
  const reader = await device.openTopic(await readOnlyTicket(await generateTicket()));
  await refused(device.send(reader, 'x'), 'state', 'read_only');
  assert.equal((await device.statistics()).operations, 0);
  await device.close();
  await refused(device.send(topic, 'late'), 'state', 'closed');
  device.networkChanged();
});

test('case_66 logs and errors show no key and no text', { timeout }, async () => {
  const lines: LogLine[] = [];
  const log = { level: 'trace' as const, line: (line: LogLine) => lines.push(line) };
  const device = await Device.open({ name: 'quiet', allowPlaintext: true, mergeChangesMs: 0 }, log);
  await refused(Device.open({ name: 'loud' }, { ...log, level: 'all' as never }), 'argument', 'native');
  const [ticket, words] = [await generateTicket(), await generateMnemonic()];
  const topic = await device.openTopic(ticket);
  const long = 'a very private text '.repeat(4000);
  await device.send(topic, 'a very private text');
  const calls = [
    () => device.openTopic(`${ticket.slice(0, -1)}!`), () => importMnemonic('quiet', `${words} ${words}`),
    () => device.send(topic, long), () => device.join(ticket), () => device.export('/', words),
  ];
  for (const call of calls) {
    const error: unknown = await (call() as Promise<unknown>).then(() => assert.fail('was not refused'), (failed: unknown) => failed);
    assert.ok(error instanceof DeltaError);
    const said = `${String(error)} ${error.stack} ${JSON.stringify(error)} ${error.reason}`;
    const [first = ''] = words.split(' ');
    for (const hidden of [ticket.slice(0, 30), `${first} `, 'a very private text']) assert.ok(!said.includes(hidden), said);
  }
  await until(async () => lines.length > 0);
  await device.close();
  const logged = lines.map((line) => `${line.target} ${line.message}`).join('\n');
  assert.ok(lines.every((line) => line.target.startsWith('delta_') && line.message));
  for (const hidden of [ticket.slice(0, 30), words, 'a very private text']) assert.ok(!logged.includes(hidden));
});

test('case_68 a keystore that denies is told', { timeout }, async () => {
  await refused(open('locked'), 'keystore', 'keystore_denied');
});

test('case_69 a second process is refused', { timeout }, async () => {
  const device = await open('contested');
  const other = new Bridge(join(folder, 'app'));
  const native = other.module as { open(config: object, logLevel: null): Promise<unknown> };
  await assert.rejects(native.open({ name: 'contested' }, null), { code: 'database_locked' });
  await device.close();
  await other.close();
});

test('numbers that are none, or out of range, are refused', { timeout }, async () => {
  const device = await open('numbers');
  const topic = await device.openTopic(await generateTicket());
  const { log } = await device.createSpace({ name: 'Numbers' });
  for (const wrong of [NaN, Infinity, -Infinity]) {
    await refused(device.messages(topic, { kind: 'newest' }, wrong), 'argument', 'native');
    await refused(device.runOnce(wrong), 'argument', 'native');
    await refused(device.outbox(topic, 10, wrong), 'argument', 'native');
    await refused(device.search({ words: 'x', since: wrong }), 'argument', 'native');
    await refused(device.createRoom(log, { name: 'x', cooldown: wrong }), 'argument', 'native');
    await refused(device.prune(topic, new Date(wrong)), 'argument', 'native');
    await refused(Device.open({ name: 'more', coverMs: wrong }), 'argument', 'native');
  }
  await refused(device.search({ words: 'x', since: 1e300 }), 'argument', 'native');
  await refused(device.runOnce(1e300), 'argument', 'native');
  assert.deepEqual(await device.messages(topic, { kind: 'newest' }, -1), []);
  await device.close();
});

test('pages by author, mention and receipt, and a space as its managers see it', { timeout }, async () => {
  const device = await open('pages');
  const topic = await device.openTopic(await generateTicket());
  const ids: OperationId[] = [];
  for (let number = 0; number < 3; number += 1) {
    ids.push(await device.send(topic, `word ${number}`, { mentions: [device.author] }));
  }
  const [first, second, third] = ids;
  const by = await device.messagesBy(topic, device.author, { kind: 'newest' }, 2);
  assert.deepEqual(by.map((one) => one.id), [second, third]);
  assert.deepEqual(await device.messagesBy(topic, device.author, { kind: 'newest' }, 2, { since: new Date(0) }), []);
  assert.deepEqual(await device.messagesReceived(topic, { until: new Date() }, 2), { messages: [] });
  assert.deepEqual(await device.messagesReceived(topic, {}, 2, { at: 0, arrival: 0 }), { messages: [] });
  const mentions = await device.mentions(device.author, { topic, limit: 2 });
  assert.deepEqual(mentions.map((one) => one.message.id), [third, second]);
  const rest = await device.mentions(device.author, { before: mentions[1]!.arrival });
  assert.deepEqual(rest.map((one) => one.message.id), [first]);
  const [found] = await device.search({ words: 'word' }, 1);
  assert.equal((await device.search({ words: 'word', before: found!.arrival })).length, 2);

  const at = { collection: 'settings', key: 'colour' };
  const put = await device.putValue(topic, at, 'cmVk');
  const value = await device.value(topic, at);
  assert.deepEqual([value?.at, value?.value, value?.id, value?.author], [at, 'cmVk', put, device.author]);
  assert.deepEqual((await device.values(topic, 'settings', { prefix: 'col' })).map((one) => one.at), [at]);
  assert.deepEqual(await device.values(topic, 'settings', { after: 'colour' }), []);
  await device.deleteValue(topic, at);
  assert.equal(await device.value(topic, at), null);
  await device.setReadKey(topic, btoa('k'.repeat(32)));
  await device.setReadKey(topic);
  await refused(device.setReadKey(topic, btoa('short')), 'argument', 'id');

  const own = await device.identity();
  assert.equal(await device.person(topic, device.author), own);
  const space = await device.createSpace({ name: 'Family' });
  const room = await device.createRoom(space.log, { name: 'Dinner' });
  const other = 'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a' as Identity;
  const actions: SpaceAction[] = [
    { kind: 'update', about: { name: 'Relatives' } }, { kind: 'add', member: other, level: 'read' },
    { kind: 'promote', member: other, level: 'write' }, { kind: 'mute', member: other, until: Date.now() + 60_000 },
    { kind: 'unmute', member: other }, { kind: 'demote', member: other, level: 'read' },
    { kind: 'ban', member: other, reason: 'weeds' }, { kind: 'unban', member: other },
    { kind: 'updateRoom', room: room.log, about: { name: 'Supper' } }, { kind: 'archiveRoom', room: room.log },
    { kind: 'unarchiveRoom', room: room.log }, { kind: 'deleteRoom', room: room.log },
  ];
  for (const action of actions) await device.changeSpace(space.log, action);
  await refused(device.changeSpace(space.log, { kind: 'unmute', member: own }), 'state', 'not_allowed');
  const lines = await device.auditLog(space.log);
  assert.deepEqual([lines[0]?.kind, lines[0]?.who], ['room.delete', own]);
  const [newest] = await device.auditLog(space.log, 1);
  assert.deepEqual(await device.auditLog(space.log, 64, newest?.place), lines.slice(1));
  assert.ok(await device.createInvitation(space.log, 'write', { once: true }));
  const [invitation] = await device.invitations(space.log);
  assert.deepEqual([invitation?.level, invitation?.once, invitation?.used], ['write', true, false]);
  await device.changeSpace(space.log, { kind: 'revokeInvitation', invitation: invitation!.id });
  assert.deepEqual(await device.joinRequests(space.log), []);
  assert.ok(Array.isArray(await device.spaceDevices(space.log)));
  assert.equal((await device.members(space.log, 1)).length, 1);
  assert.deepEqual(await device.members(space.log, 10, own), (await device.members(space.log)).filter((one) => one.member > own));
  await device.close();
});

test('documents are made, paged and written to', { timeout }, async () => {
  const device = await open('documents');
  const topic = await device.openTopic(await generateTicket());
  const named = new Set<string>();
  const stop = device.listen(topic, (event) => {
    if (event.kind !== 'changed') return;
    for (const { kind, ids } of event.changes) if (kind === 'document') ids.forEach((one) => named.add(one));
  });
  const made: OperationId[] = [];
  for (const path of ['notes/b', 'notes/a', 'todo']) made.push(await device.createDocument(topic, path));
  const [second, first, other] = made as [OperationId, OperationId, OperationId];
  assert.deepEqual((await device.documents(topic)).map((one) => one.path), ['notes/a', 'notes/b', 'todo']);
  const page = await device.documents(topic, { prefix: 'notes/', limit: 1 });
  assert.deepEqual(page, [{ id: first, path: 'notes/a', author: device.author }]);
  const rest = await device.documents(topic, { prefix: 'notes/', after: first });
  assert.deepEqual(rest.map((one) => one.id), [second]);
  const change = await device.writeDocument(topic, second, 'AP8=');
  const snapshot = await device.writeDocument(topic, second, btoa('all of it'), true);
  const parts = await device.documentParts(topic, second);
  assert.deepEqual(
    parts.map(({ number: _, ...part }) => part),
    [
      { id: change, author: device.author, snapshot: false, bytes: 'AP8=' },
      { id: snapshot, author: device.author, snapshot: true, bytes: btoa('all of it') },
    ],
  );
  const after = parts[0]!.number;
  assert.ok(after < parts[1]!.number);
  assert.deepEqual(await device.documentParts(topic, second, { after }), parts.slice(1));
  assert.deepEqual(await device.documentParts(topic, second, { after: -1, limit: 1 }), parts.slice(0, 1));
  assert.deepEqual(await device.documentParts(topic, other), []);
  await refused(device.documentParts(topic, second, { after: NaN }), 'argument', 'native');
  await refused(device.createDocument(topic, 'a//b'), 'argument', 'content');
  const most = 768 * 1024;
  await refused(device.writeDocument(topic, first, btoa('a'.repeat(most + 1))), 'argument', 'content');
  await device.writeDocument(topic, first, btoa('a'.repeat(most)));
  // The subscription may have begun after some of it.
  await until(async () => {
    for (const document of made) await device.writeDocument(topic, document, btoa('more'));
    return made.every((document) => named.has(document));
  });
  assert.equal(named.size, made.length);
  stop();
});

test('messages bring blobs along', { timeout }, async () => {
  const device = await open('blobs');
  const topic = await device.openTopic(await generateTicket());
  // Two chunks.
  const bytes = Uint8Array.from(Array.from({ length: 256_001 }, (_, at) => (at * 31) % 256));
  const [from, to] = [join(folder, 'from.bin'), join(folder, 'to.bin')];
  writeFileSync(from, bytes);
  const file = await device.attach({ kind: 'file', path: from }, 'image/png', 'from.bin');
  const small = await device.attach({ kind: 'bytes', bytes: 'Nw==' }, 'text/plain');
  const sent = await device.send(topic, 'look', { attachments: [file, small] });
  await device.publish(topic, { kind: 'blobShare', blob: small });
  assert.deepEqual((await device.message(sent))?.attachments, [
    { blob: file, size: 256_001, mime: 'image/png', name: 'from.bin' },
    { blob: small, size: 1, mime: 'text/plain' },
  ]);
  const status = await device.blobStatus(file);
  assert.deepEqual([status.state, status.have, status.of], ['sending', 0, 2]);
  await device.fetchBlob(file);
  await device.writeBlob(file, to);
  assert.deepEqual(new Uint8Array(readFileSync(to)), bytes);
  assert.equal(await device.blobBytes(small), 'Nw==');
  await device.dropBlob(file);
  assert.equal((await device.blobStatus(file)).state, 'absent');
  await refused(device.blobBytes(file), 'state', 'blob_not_here');
  await refused(device.attach({ kind: 'file', path: join(folder, 'none') }, 'text/plain'), 'device', 'io');
  await device.close();
});

test('an export is imported, and what is wiped is gone', { timeout }, async () => {
  const words = await generateMnemonic();
  await importMnemonic('exported', words);
  assert.equal(await storedMnemonic('exported'), words);
  const identity = await mnemonicIdentity(words);
  assert.equal(await parseAddress(await identityAddress(identity)), identity);
  const device = await open('exported');
  assert.equal(await device.identity(), identity);
  const topic = await device.openTopic(await generateTicket());
  assert.ok((await device.keySnapshot()).length > 0);
  const file = join(folder, 'an export');
  await device.export(file, 'a passphrase', words);
  await refused(Device.importFrom(file, 'another', { name: 'imported' }), 'argument', 'export_passphrase');
  const copy = await Device.importFrom(file, 'a passphrase', { name: 'imported' });
  assert.deepEqual([await copy.topics(), copy.renewed], [[topic], true]);
  assert.equal(await storedMnemonic('imported'), words);
  assert.equal(await copy.prune(topic, new Date()), 0);
  await copy.close();
  await device.wipe();
  assert.equal(await storedMnemonic('exported'), null);
  await refused(device.topics(), 'state', 'closed');
});

test('a further device is paired and revoked', { timeout }, async () => {
  const words = await generateMnemonic();
  await importMnemonic('old', words);
  const [[old, topic], [fresh]] = [await joined('old', await generateTicket()), await joined('fresh', await generateTicket())];
  const unwanted = await old.pair();
  const turned = await fresh.join(unwanted.text);
  const asks = await unwanted.asked();
  await asks.refuse();
  await asks.refuse();
  await refused(asks.accept(), 'state', 'pairing_expired');
  await refused(turned.joined(), 'state', 'pairing_refused');
  const host = await old.pair();
  const guest = await fresh.join(host.text);
  const request = await host.asked();
  assert.deepEqual([request.device, request.code], [fresh.author, await guest.code()]);
  await request.accept();
  await refused(request.refuse(), 'state', 'pairing_expired');
  assert.equal(await guest.joined(), await mnemonicIdentity(words));
  assert.ok((await fresh.topics()).includes(topic));
  assert.deepEqual((await old.ownDevices()).filter((one) => one.this).map((one) => one.device), [old.author]);
  await old.revokeDevice(fresh.author);
  assert.deepEqual((await old.ownDevices()).filter((one) => one.revoked).map((one) => one.device), [fresh.author]);
  host.cancel();
  await refused(host.asked(), 'state', 'pairing_expired');
  await refused(fresh.join('no text'), 'argument', 'pairing');
  await old.close();
  await fresh.close();
});

test('two people talk in a direct thread', { timeout }, async () => {
  const [alice, bob] = [await open('asks'), await open('answers')];
  for (const device of [alice, bob]) await device.initSync(hops(), facts.sync);
  const heard: Event[] = [];
  bob.listen(await bob.openInbox(), (event) => heard.push(event));
  const thread = await alice.requestDirect(await bob.contact(), 'may I?');
  assert.deepEqual((await alice.directThreads()).map((one) => [one.state, one.peer]), [['asked', bob.author]]);
  await until(async () => (await bob.directThreads()).some((one) => one.state === 'requested'));
  const [request] = await bob.directThreads();
  assert.deepEqual([request?.thread, request?.peer, request?.text], [thread, alice.author, 'may I?']);
  assert.ok(Math.abs(request!.madeAt - Date.now()) < 3_600_000);
  await until(async () => heard.some((one) => one.kind === 'changed' && one.changes.some((change) => change.kind === 'directThread')));
  const there = await bob.acceptDirect(thread);
  await until(async () => (await alice.directThreads()).some((one) => one.state === 'open'));
  const here = (await alice.directThreads())[0]!.topic!;
  const stops = [alice.listen(here, () => {}), bob.listen(there, () => {})];
  await bob.sendDirect(thread, { kind: 'messageSend', text: 'of course' });
  await untilTexts(alice, here, 'of course');
  await alice.sendDirect(thread, { kind: 'messageSend', text: 'thank you' });
  await untilTexts(bob, there, 'of course', 'thank you');
  stops.forEach((stop) => stop());
  await alice.closeDirect(thread);
  await refused(alice.sendDirect(thread, { kind: 'messageSend', text: 'too late' }), 'state', 'thread_state');
  await refused(alice.requestDirect('no contact'), 'argument', 'contact');
  await refused(alice.acceptDirect('00'.repeat(32) as never), 'state', 'unknown_thread');
  await alice.close();
  await bob.close();
});

test('a signal reaches who listens now', { timeout }, async () => {
  const ticket = await generateTicket();
  const [[alice, topic], [bob]] = [await joined('types', ticket), await joined('sees', ticket)];
  const heard: Event[] = [];
  const stops = [bob.listen(topic, (event) => heard.push(event)), alice.listen(topic, () => {})];
  await until(async () => (await bob.status(topic)).connection === 'live');
  await alice.signal(topic, btoa('typing'));
  await until(async () => heard.some((event) => event.kind === 'signal'));
  const signals = heard.flatMap((event) => (event.kind === 'signal' ? [[event.author, event.bytes]] : []));
  assert.deepEqual(signals, [[alice.author, btoa('typing')]]);
  await refused(alice.signal(topic, ''), 'argument', 'signal');
  stops.forEach((stop) => stop());
  await alice.close();
  await bob.close();
});

test('whoever asks to join is seen and let in; members are written to by their keys', { timeout }, async () => {
  const [alice, bob] = [await open('manager'), await open('asker')];
  for (const device of [alice, bob]) await device.initSync(hops(), facts.sync);
  const made = await alice.createSpace({ name: 'Kitchen' });
  const stop = alice.listen(made.topic, () => {});
  await refused(alice.requestDirectOf(bob.author, 'a word'), 'state', 'not_reachable');
  const asked = await bob.requestJoin(made.log, await alice.contact(), 'may I?');
  await until(async () => (await alice.joinRequests(made.log)).length > 0);
  const [request] = await alice.joinRequests(made.log);
  assert.deepEqual([request?.id, request?.author, request?.text], [asked, bob.author, 'may I?']);
  await alice.changeSpace(made.log, { kind: 'add', member: await bob.identity(), level: 'read' });
  assert.equal((await alice.members(made.log)).find((one) => one.member === (bob.author as string))?.level, 'read');
  await refused(bob.requestJoin(made.log, 'no contact'), 'argument', 'contact');
  const place = await alice.createRoom(made.log, { name: 'Dinner' });
  await refused(alice.wipeTopic(place.topic), 'state', 'room_of_space');
  stop();
  await alice.wipeTopic(made.topic);
  assert.deepEqual([await alice.spaces(), await alice.topics()], [[], []]);
  await alice.close();
  await bob.close();
});

test('messages are edited, taken back, reacted to, paged, and published once with a key', { timeout }, async () => {
  const device = await open('paged');
  const ticket = await generateTicket();
  const topic = await device.openTopic(ticket);
  assert.deepEqual([(await ticketFacts(ticket)).topic, (await ticketFacts(ticket)).canWrite], [topic, true]);
  const ids = [];
  for (let number = 0; number < 10; number += 1) ids.push(await device.send(topic, `line ${number} "ü\n👍`));
  const [first, second] = [ids[0]!, ids[1]!];
  await device.publish(topic, { kind: 'messageEdit', target: first, text: 'corrected' });
  await device.publish(topic, { kind: 'messageDelete', target: second });
  await device.publish(topic, { kind: 'reactionAdd', target: first, emoji: '👍' });
  await device.publish(topic, { kind: 'profileSet', name: 'Alice' });
  const newest = await device.messages(topic, { kind: 'newest' }, 4);
  assert.deepEqual(newest.map((one) => one.id), ids.slice(6));
  assert.equal(newest[0]?.text, 'line 6 "ü\n👍');
  const earlier = await device.messages(topic, { kind: 'before', position: newest[0]!.position }, 100);
  assert.deepEqual(earlier.map((one) => one.id), ids.slice(0, 6));
  const later = await device.messages(topic, { kind: 'after', position: earlier[5]!.position }, 2);
  assert.deepEqual(later.map((one) => one.id), ids.slice(6, 8));
  assert.deepEqual([earlier[0]?.text, earlier[1]?.text, earlier[1]?.deleted], ['corrected', undefined, true]);
  const reactions = await device.reactions(first);
  assert.deepEqual(reactions.map((one) => [one.emoji, one.author]), [['👍', device.author]]);
  assert.equal((await device.message(first))?.text, 'corrected');
  const once = await device.send(topic, 'once', { key: 'a2V5' });
  assert.equal(await device.send(topic, 'once', { key: 'a2V5' }), once);
  await device.close();
});

test('spaces, rooms, invitations, search, unread and the outbox', { timeout }, async () => {
  const device = await open('spaces');
  const space = await device.createSpace({ name: 'Family', description: 'All of us' });
  const room = await device.createRoom(space.log, { name: 'Dinner', cooldown: 5 });
  assert.deepEqual((await device.spaces()).map((one) => [one.space, one.about.name]), [[space.log, 'Family']]);
  assert.equal((await device.space(space.log))?.about.description, 'All of us');
  assert.equal(await device.space(room.log), null);
  const [only] = await device.rooms(space.log);
  assert.deepEqual([only?.topic, only?.about, only?.state], [room.topic, { name: 'Dinner', cooldown: 5 }, 'open']);
  const members = await device.members(space.log);
  assert.deepEqual(members.map(({ member: _, ...rest }) => rest), [{ level: 'manage', muted: false, banned: false }]);
  assert.match(members[0]?.member ?? '', /^[0-9a-f]{64}$/);
  const expires = new Date(Date.now() + 3_600_000);
  assert.ok(await device.createInvitation(space.log, 'write', { expires, once: true }));
  await refused(device.createInvitation(space.log, 'rule' as never), 'argument', 'native');
  await refused(device.acceptInvitation('none'), 'argument', 'invitation');

  const sent = await device.send(room.topic, 'Potatoes tonight');
  await device.publish(room.topic, { kind: 'profileSet', name: 'Alice', bio: 'cooks' });
  const rows = await device.outbox(room.topic);
  const row = rows.find((one) => one.operation === sent);
  assert.deepEqual([row?.own, row?.state, row?.tries], [true, { kind: 'queued' }, 0]);
  assert.ok((await device.outbox(room.topic, 10, row?.row)).every((one) => one.row > row!.row));
  const profile = await device.profile(room.topic, device.author);
  assert.deepEqual([profile?.name, profile?.bio, profile?.public], ['Alice', 'cooks', false]);
  assert.equal((await device.profiles(device.author)).length, 1);
  const found = await device.search({ words: 'potatoes', topic: room.topic, author: device.author });
  assert.deepEqual(found.map((one) => [one.message.id, one.log, one.excerpt]), [[sent, room.log, 'Potatoes tonight']]);
  assert.deepEqual((await device.messageHistory(sent)).map((one) => one.text), ['Potatoes tonight']);
  assert.deepEqual(await device.unread(room.topic), { messages: 0, mentions: 0 });
  const [shown] = await device.messages(room.topic);
  await device.setRead(room.topic, shown!.position);
  assert.ok((await device.storageUse()).topics.some((one) => one.log === room.log && one.bytes > 0));
  assert.equal(await device.retry(room.topic), 0);
  // What never left is gone; what others of this device build on is deleted by a further operation.
  const last = await device.send(room.topic, 'too early');
  assert.deepEqual(await device.cancel(room.topic, last), { kind: 'removed' });
  assert.equal(await device.message(last), null);
  assert.equal((await device.cancel(room.topic, sent)).kind, 'deleted');
  assert.equal((await device.message(sent))?.deleted, true);
  await device.close();
});

test('a person\'s words go into the keystore of a database', { timeout }, async () => {
  const words = await generateMnemonic();
  assert.equal(words.split(' ').length, 24);
  await importMnemonic('certified', words);
  await refused(importMnemonic('certified', 'no words'), 'argument', 'mnemonic');
  await (await open('certified')).close();
});
