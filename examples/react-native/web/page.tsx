/** The app's screens in a browser, over a module in memory. */
// First: the facade asks for the module when it is loaded.
import './install';
import { AppRegistry } from 'react-native';
import { App } from '../src/App';

AppRegistry.registerComponent('DeltaExample', () => App);
AppRegistry.runApplication('DeltaExample', { rootTag: document.getElementById('root') as never });
