package rotation

// RewriteCursor reads a step's cursor and writes it as a step does that waits.
func RewriteCursor(step Step, text string) string { return readCursor(step, text).after(Wait) }
