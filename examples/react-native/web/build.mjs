/** `node web/build.mjs FOLDER`: the page with everything it needs, in one folder. */
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const folder = process.argv[2];
mkdirSync(folder, { recursive: true });
await build({
  entryPoints: ['web/page.tsx'],
  outfile: join(folder, 'page.js'),
  bundle: true,
  format: 'iife',
  target: 'es2022',
  jsx: 'automatic',
  mainFields: ['browser', 'module', 'main'],
  define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis', __DEV__: 'true' },
  alias: {
    'react-native': './web/react-native.ts',
    'delta-react-native': '../../bindings/react-native/src/index.ts',
  },
  logLevel: 'error',
});
copyFileSync('web/index.html', join(folder, 'index.html'));
