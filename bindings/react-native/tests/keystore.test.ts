/** AndroidKeystore on the JVM, over a stand-in for the keystore of Android (tests/jvm/Keystores.kt). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';

test('case_68 the Android keystore keeps, denies, and says what it cannot remove', { timeout: 120_000 }, () => {
  const [program = '', ...words] = JSON.parse(process.env.DELTA_BRIDGE ?? '[]') as string[];
  const { status, stdout, stderr } = spawnSync(program, [...words, '--keystores'], { encoding: 'utf8' });
  assert.deepEqual([status, stdout], [0, 'keystores OK\n'], stderr);
});
