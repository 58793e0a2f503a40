/**
 * `node tests/spec.mjs FOLDER`: React Native's own code generator reads the spec and writes the Java that the module extends.
 * What it declares in Objective-C must be in DeltaModule.mm, which nothing here can compile.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const require = createRequire(import.meta.url);
const { codegenConfig } = require('../package.json');
const { TypeScriptParser } = require('@react-native/codegen/lib/parsers/typescript/parser.js');
const java = require('@react-native/codegen/lib/generators/modules/GenerateModuleJavaSpec.js');

const schema = new TypeScriptParser().parseFile('src/NativeDelta.ts');
const written = java.generate(codegenConfig.name, schema, codegenConfig.android.javaPackageName, false);
for (const [name, text] of written) {
  const path = join(process.argv[2], name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}
if (written.size !== 1) throw new Error(`${written.size} files were written instead of one`);

const objc = require('@react-native/codegen/lib/generators/modules/GenerateModuleObjCpp/index.js');
const plain = (text) => text.replace(/\s+/g, ' ');
const header = plain(objc.generate(codegenConfig.name, schema, null, false).get(`${codegenConfig.name}.h`));
const module = plain(readFileSync('ios/DeltaModule.mm', 'utf8'));
const declared = (/@protocol NativeDeltaSpec (.*?) @end/.exec(header)?.[1] ?? '').match(/- \(void\)[^;]*/g) ?? [];
const missing = declared.filter((method) => !module.includes(`${method} {`));
if (declared.length === 0 || missing.length > 0) throw new Error(`ios/DeltaModule.mm lacks ${missing.join('\n')}`);
const calls = declared.map((method) => /\)(\w+)/.exec(method)[1]);
const bridge = readFileSync('ios/DeltaBridge.swift', 'utf8');
const unknown = calls.filter((name) => !module.includes(`call:@"${name}"`) || !bridge.includes(`case "${name}":`));
if (unknown.length > 0) throw new Error(`ios does not know ${unknown.join(', ')}`);
