const { getDefaultConfig, mergeConfig } = require('@react-native/metro-config');
const path = require('path');

// The bindings lie outside this folder.
module.exports = mergeConfig(getDefaultConfig(__dirname), {
  watchFolders: [path.resolve(__dirname, '../../bindings/react-native')],
  resolver: { nodeModulesPaths: [path.resolve(__dirname, 'node_modules')] },
});
