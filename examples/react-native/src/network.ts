/**
 * The relays and the sync server of this app. `delta demo --serve` (see docs/getting-started-react-native.md) prints what
 * to put here. Without them the app works alone: what is written stays queued.
 */
import type { NodeId, RelayHops } from 'delta-react-native';

export type Network = { hops: RelayHops; syncUrl: string };

export const network: Network | null = null;

/** For servers on the own machine, which speak http. Never in a released app. */
export const development = __DEV__;

/** What `delta demo --serve` prints, with the two files' contents. */
export function demo(list: string, records: string, trust: string, syncUrl: string): Network {
  return { hops: { kind: 'directory', list, records, trustedKeys: [trust as NodeId], threshold: 1 }, syncUrl };
}
