/** What calls fail with. */

/** Who is at fault: the call, how things stand, this device, its keystore, the network, a server, or Delta. */
export type Kind = 'argument' | 'state' | 'device' | 'keystore' | 'network' | 'server' | 'bug';

const KINDS: readonly string[] = ['argument', 'state', 'device', 'keystore', 'network', 'server', 'bug'];

/** A call failed; nothing of it was done. `code` is stable in all versions and languages; docs/errors.md lists each. */
export class DeltaError extends Error {
  override readonly name = 'DeltaError';

  constructor(
    readonly kind: Kind,
    readonly code: string,
    readonly reason: string,
  ) {
    super(`${reason} (${code})`);
  }
}

/** A native call, failing with `DeltaError` alone. */
export async function called<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    throw asDeltaError(error);
  }
}

/** What the bridge rejected with. What has no code of Delta's is a bug of the module. */
export function asDeltaError(error: unknown): DeltaError {
  if (error instanceof DeltaError) return error;
  const { code, message, userInfo } = (error ?? {}) as Record<string, unknown>;
  const { kind, reason } = (userInfo ?? {}) as Record<string, unknown>;
  if (typeof code === 'string' && typeof kind === 'string' && KINDS.includes(kind)) {
    return new DeltaError(kind as Kind, code, String(reason ?? message ?? code));
  }
  return new DeltaError('bug', 'native', String(message ?? error));
}
