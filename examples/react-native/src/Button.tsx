/** A button of at least 44 points that says when it cannot be pressed. */
import { Pressable, StyleSheet, Text } from 'react-native';
import { useTheme } from './theme';

export function Button({ label, onPress, disabled = false }: { label: string; onPress: () => void; disabled?: boolean }) {
  const theme = useTheme();
  const colours = disabled
    ? { backgroundColor: theme.raised, color: theme.faint }
    : { backgroundColor: theme.accent, color: theme.onAccent };
  return (
    <Pressable
      accessibilityRole="button"
      accessibilityLabel={label}
      accessibilityState={{ disabled }}
      disabled={disabled}
      onPress={onPress}
      style={[styles.button, { backgroundColor: colours.backgroundColor }]}
    >
      <Text style={[styles.label, { color: colours.color }]}>{label}</Text>
    </Pressable>
  );
}

const styles = StyleSheet.create({
  button: { minHeight: 44, justifyContent: 'center', paddingHorizontal: 16, borderRadius: 8 },
  label: { fontSize: 16, fontWeight: '600' },
});
