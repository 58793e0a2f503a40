/** React Native for a browser, and the module that the page brings. Takes the place of `react-native` in the bundle. */
// @ts-expect-error: react-native-web brings no types.
export * from 'react-native-web';

export const TurboModuleRegistry = {
  getEnforcing: () => (globalThis as unknown as { delta: object }).delta,
};
