/**
 * Bundles the tests and runs them, or with `--bench` the benchmark, or with `--first APP` the app of the documentation's first
 * page. `node tests/run.mjs` from this folder, with the packages of package.json found from here and the bridge's command line in
 * DELTA_BRIDGE, if it is there (`cargo xtask test --only binding-typescript`).
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const [how, app] = process.argv.slice(2);
const tests = how === undefined;
const out = join(process.cwd(), 'built');
rmSync(out, { recursive: true, force: true });
const wanted = tests ? /\.test\.tsx?$/ : how === '--bench' ? /^bench\.ts$/ : /^first\.tsx$/;
const sources = readdirSync('tests').filter((name) => wanted.test(name));
await build({
  entryPoints: sources.map((name) => join('tests', name)),
  outdir: out,
  outExtension: { '.js': '.mjs' },
  bundle: true,
  platform: 'node',
  format: 'esm',
  packages: 'external',
  jsx: 'automatic',
  alias: {
    'react-native': './tests/stand-in/react-native.ts',
    'delta-react-native': './src/index.ts',
    ...(app === undefined ? {} : { 'first-page': app }),
  },
  logLevel: 'error',
});
const built = sources.map((name) => join(out, name.replace(/\.tsx?$/, '.mjs')));
const { status } = spawnSync(process.execPath, tests ? ['--test', ...built] : built, { stdio: 'inherit' });
process.exit(status ?? 1);
