/** Delta for React Native: one object, typed errors, hooks. */
export * from './device';
export * from './errors';
export * from './hooks';
export type * from './types';
