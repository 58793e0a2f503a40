/** Colours for light and dark. Text on each ground has a contrast of 4.5 or more (WCAG 2.2, 1.4.3). */
import { useColorScheme } from 'react-native';

export type Theme = {
  ground: string;
  raised: string;
  text: string;
  faint: string;
  line: string;
  accent: string;
  onAccent: string;
  warning: string;
  good: string;
};

const light: Theme = {
  ground: '#ffffff',
  raised: '#f1f3f6',
  text: '#16181d',
  faint: '#545a66',
  line: '#d5d9e0',
  accent: '#1f56c4',
  onAccent: '#ffffff',
  warning: '#9a3412',
  good: '#17663a',
};

const dark: Theme = {
  ground: '#101216',
  raised: '#1d2027',
  text: '#eceef2',
  faint: '#a9b0bd',
  line: '#363b46',
  accent: '#8fb4ff',
  onAccent: '#0b1730',
  warning: '#fdba74',
  good: '#7fe0a7',
};

/** The colours the person asked their system for. */
export function useTheme(): Theme {
  return useColorScheme() === 'dark' ? dark : light;
}
