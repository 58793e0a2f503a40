/**
 * The spec against the generated Kotlin: every method of `Delta` is there, with the same parameters and values. What is
 * left out is named here, with the reason.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import ts from 'typescript';

const root = process.env.DELTA_ROOT ?? join(process.cwd(), '../..');
const kotlin = readFileSync(join(root, 'bindings/kotlin/src/delta/ffi/delta_ffi.kt'), 'utf8')
  // Its comments hold braces and semicolons.
  .replace(/\/\*[^]*?\*\//g, '');

/** Methods of Kotlin's `Delta` that the spec has in another form. */
const ELSEWHERE: Record<string, string> = {
  author: 'in what `open` answers',
  renewed: 'in what `open` answers',
  nextEvents: 'events are pushed',
};
/** Kotlin's name, where it is another. */
const NAMES: Record<string, string> = { close: 'shutdown', exportTo: 'export' };
/** What only the spec has. */
const OWN = [
  'open', 'importFrom', 'unsubscribe', 'onEvent', 'onLog',
  // The calls of an object that the bridge cannot carry: a number stands for it.
  'pairingAsked', 'pairingAccept', 'pairingRefuse', 'pairingCode', 'pairingJoined', 'pairingCancel',
];
/** Functions beside `Delta`, and what of their parameters differs. */
const FUNCTIONS: Record<string, Record<string, string>> = {
  generateTicket: { public: 'isPublic: boolean' },
  readOnlyTicket: {},
  ticketFacts: {},
  generateMnemonic: {},
  // A name stands for the keystore.
  importMnemonic: { keystore: 'name: string' },
  storedMnemonic: { keystore: 'name: string' },
  mnemonicIdentity: {},
  identityAddress: {},
  parseAddress: {},
};
/** Records, and the fields that have another name or form here. */
const RECORDS: Record<string, Record<string, string>> = {
  Attachment: {},
  AuditLine: {},
  AuditPlace: {},
  BlobStatus: {},
  Change: {},
  ClockSkew: {},
  DirectThread: {},
  Document: {},
  DocumentPart: {},
  Config: { path: 'name: string', cover: 'coverMs?: number', relayDelay: 'relayDelayMs?: number' },
  Found: {},
  GapRow: {},
  Invitation: {},
  JoinRequest: {},
  Member: {},
  Mention: {},
  Message: {},
  Outbox: {},
  OutboxRow: {},
  OwnDevice: {},
  ParkedRows: {},
  Pending: {},
  Place: {},
  Profile: {},
  Reaction: {},
  ReceiptPlace: {},
  ReceivedPage: {},
  Room: {},
  RoomText: {},
  RunSummary: {},
  SearchWords: {},
  Space: {},
  SpaceDevice: {},
  SpaceText: {},
  Statistics: {},
  StorageUse: {},
  TicketFacts: {},
  TopicStatus: {},
  TopicUse: {},
  Trouble: {},
  Unread: {},
  Value: {},
  ValueKey: {},
  Version: {},
};
const ENUMS = ['BlobState', 'Connection', 'ChangedKind', 'Level', 'LogLevel', 'RoomState', 'ThreadState'];
const IDS = ['TopicId', 'OperationId', 'Author', 'LogId', 'NodeId', 'Position', 'BlobId', 'Identity', 'ThreadId'];
/** Variants whose fields cross in one flat object. */
const SEALED = {
  BlobSource: 'BlobSource',
  Event: 'Event',
  Content: 'Content',
  MessagePage: 'Page',
  OutboxState: 'SendState',
  Cancelled: 'Cancelled',
  SpaceAction: 'SpaceAction',
} as const;
const PLAIN: Record<string, string> = {
  String: 'string', Boolean: 'boolean', Duration: 'number', Instant: 'number', ByteArray: 'string',
  BlobSource: 'UnsafeObject', Content: 'UnsafeObject', MessagePage: 'UnsafeObject', RelayHops: 'UnsafeObject',
  UByte: 'number', UShort: 'number', UInt: 'number', ULong: 'number', Int: 'number', Long: 'number',
};

test('every method of the spec is one of Delta, with its parameters and its value', () => {
  const methods = spec();
  for (const [name, found] of methods) {
    if (OWN.includes(name)) continue;
    const wanted = FUNCTIONS[name] ? kotlinFunction(name) : kotlinMethods().get(NAMES[name] ?? name);
    assert.ok(wanted, `Kotlin has no ${name}`);
    const differs = FUNCTIONS[name] ?? { listener: '' };
    const parameters = wanted.parameters
      .map(([name, type]) => differs[name] ?? `${name}: ${passed(type)}`)
      .filter((parameter) => parameter !== '');
    const expected = FUNCTIONS[name] ? parameters : ['device: number', ...parameters];
    assert.deepEqual(found.parameters, expected, `parameters of ${name}`);
    // A subscription is a number here.
    const value = name === 'subscribe' ? 'number' : wanted.value;
    assert.equal(found.value, name === 'networkChanged' ? 'void' : `Promise<${value}>`, `value of ${name}`);
  }
});

test('every method of Delta is in the spec, or named here with a reason', () => {
  const methods = spec();
  const inSpec = new Set([...methods.keys()].map((name) => NAMES[name] ?? name));
  const missing = [...kotlinMethods().keys()].filter((name) => !inSpec.has(name) && !(name in ELSEWHERE));
  assert.deepEqual(missing, []);
  const stale = Object.keys(ELSEWHERE).filter((name) => !kotlinMethods().has(name));
  assert.deepEqual(stale, []);
});

test('records have the fields of Kotlin', () => {
  const aliases = types('src/NativeDelta.ts');
  for (const [name, differs] of Object.entries(RECORDS)) {
    const found = members(aliases.get(`Native${name}`));
    // Where a field has a default in Kotlin it may be left out here.
    const expected = kotlinFields(new RegExp(`^data class ${name} \\(([^]*?)^\\)`, 'm')).map(
      ([field, type]) =>
        differs[field] ?? `${field}${type.nullable || type.hasDefault ? '?' : ''}: ${type.ts}`,
    );
    assert.ok(expected.length > 0, name);
    assert.deepEqual(found, expected, name);
  }
});

test('enums have the values of Kotlin', () => {
  const aliases = types('src/types.ts');
  for (const name of ENUMS) {
    const body = new RegExp(`^enum class ${name} \\{([^]*?);`, 'm').exec(kotlin)?.[1] ?? '';
    const expected = body.split(',').map((value) => `'${camel(value.trim())}'`);
    assert.deepEqual(aliases.get(name)?.getText().split('|').map((value) => value.trim()), expected, name);
  }
});

test('sealed classes have the variants and fields of Kotlin', () => {
  const aliases = types('src/types.ts');
  for (const [name, here] of Object.entries(SEALED)) {
    const variants = kotlinVariants(name);
    const alias = aliases.get(here);
    assert.ok(alias && variants.size > 0, here);
    const found = new Map(unions(alias).flatMap(kinds));
    assert.deepEqual([...found.keys()].sort(), [...variants.keys()].sort(), name);
    for (const [kind, fields] of variants) {
      const expected = fields.filter((field) => !(name === 'Event' && field === 'topic'));
      assert.deepEqual(found.get(kind), expected, `${name}.${kind}`);
    }
  }
});

type Type = { ts: string; nullable: boolean; hasDefault: boolean };
type Method = { parameters: [string, Type][]; value: string };

function type(text: string): Type {
  const [declared = '', ...rest] = text.split('=');
  const bare = declared.trim().replace(/\b(kotlin|java\.time|delta\.ffi|delta)\./g, '');
  const nullable = bare.endsWith('?');
  const name = nullable ? bare.slice(0, -1) : bare;
  const list = /^List<(.*)>$/.exec(name)?.[1];
  const simple = PLAIN[name] ?? (IDS.includes(name) || ENUMS.includes(name) ? 'string' : `Native${name}`);
  return { ts: list ? `${type(list).ts}[]` : simple, nullable, hasDefault: rest.length > 0 };
}

/** How a parameter is declared: records go down as plain objects. */
function passed({ ts, nullable }: Type): string {
  const plain = ts.startsWith('Native') ? 'UnsafeObject' : ts;
  return nullable ? `${plain} | null` : plain;
}

function kotlinMethods(): Map<string, Method> {
  const body = /^public interface DeltaInterface \{([^]*?)^\}/m.exec(kotlin)?.[1] ?? '';
  const found = [...body.matchAll(/fun `(\w+)`\((.*?)\)(?:: (.*))?$/gm)];
  assert.ok(found.length > 0, 'the generated Kotlin looks different');
  return new Map(found.map(([, name = '', parameters = '', value]) => [name, method(parameters, value)]));
}

function kotlinFunction(name: string): Method | undefined {
  const found = new RegExp(`^ {4}.*\\bfun \`${name}\`\\((.*?)\\)(?:: (.*?))? ?\\{?$`, 'm').exec(kotlin);
  return found ? method(found[1] ?? '', found[2]) : undefined;
}

function method(parameters: string, value: string | undefined): Method {
  const list = parameters === '' ? [] : parameters.split(', ');
  const read = value === undefined ? undefined : type(value.replace(/[{=].*/, ''));
  return {
    parameters: list.map((parameter) => {
      const [name = '', text = ''] = parameter.split(/: (.*)/);
      return [name.replaceAll('`', ''), type(text)];
    }),
    value: read === undefined ? 'void' : read.ts + (read.nullable ? ' | null' : ''),
  };
}

function kotlinFields(from: RegExp): [string, Type][] {
  return fields(from.exec(kotlin)?.[1] ?? '');
}

function fields(body: string): [string, Type][] {
  return [...body.matchAll(/val `(\w+)`: ([^\n]*?)\s*(?:,\s*$|\)\s*:.*$|$)/gm)].map(
    ([, name = '', text = '']) => [name, type(text)],
  );
}

function kotlinVariants(name: string): Map<string, string[]> {
  const body = new RegExp(`^sealed class ${name} ?(?:: .*)?\\{([^]*?)^\\}`, 'm').exec(kotlin)?.[1] ?? '';
  const variants = [...body.matchAll(/^ {4}(?:data )?(?:class|object) (\w+)(\(([^]*?)\) : )?/gm)];
  const named = variants.filter(([, variant]) => variant !== 'Companion');
  return new Map(
    named.map(([, variant = '', , inner = '']) => [lower(variant), fields(`${inner})`).map(([field]) => field)]),
  );
}

const lower = (name: string) => name.charAt(0).toLowerCase() + name.slice(1);

/** `CAUGHT_UP` as JavaScript writes it: `caughtUp`. */
const camel = (name: string) => name.toLowerCase().replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());

function source(path: string): ts.SourceFile {
  return ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true);
}

function types(path: string): Map<string, ts.TypeNode> {
  return new Map(source(path).statements.filter(ts.isTypeAliasDeclaration).map((alias) => [alias.name.text, alias.type]));
}

function members(node: ts.TypeNode | undefined): string[] {
  if (!node || !ts.isTypeLiteralNode(node)) return [];
  return node.members.filter(ts.isPropertySignature).map((member) => member.getText().replace(/;$/, ''));
}

function unions(node: ts.TypeNode): ts.TypeLiteralNode[] {
  if (ts.isTypeLiteralNode(node)) return [node];
  const inner = ts.isUnionTypeNode(node) || ts.isIntersectionTypeNode(node) ? [...node.types] : [];
  return (ts.isParenthesizedTypeNode(node) ? [node.type] : inner).flatMap(unions);
}

/** The kinds of one variant, with the names of its other fields. */
function kinds(variant: ts.TypeLiteralNode): [string, string[]][] {
  const properties = variant.members.filter(ts.isPropertySignature);
  const kind = properties.find((property) => property.name.getText() === 'kind');
  const names = properties.filter((property) => property !== kind).map((property) => property.name.getText());
  return [...(kind?.type?.getText() ?? '').matchAll(/'(\w+)'/g)].map(([, name = '']) => [name, names]);
}

function spec(): Map<string, { parameters: string[]; value: string }> {
  const all = source('src/NativeDelta.ts').statements.filter(ts.isInterfaceDeclaration);
  const methods = all.flatMap((one) => [...one.members].filter(ts.isMethodSignature));
  assert.ok(methods.length > 0);
  return new Map(
    methods.map((method) => [
      method.name.getText(),
      { parameters: method.parameters.map((one) => one.getText()), value: method.type?.getText() ?? '' },
    ]),
  );
}
