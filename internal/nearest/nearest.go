// Package nearest finds the word that somebody meant who typed another one. It never corrects anything by itself.
package nearest

// Word returns the word of words that is the fewest edits away, or "" when all are far off: more than a third of the
// typed letters, and never more than half of the word's own.
func Word(typed string, words []string) string {
	best, fewest := "", len(typed)/3+2
	for _, w := range words {
		if n := edits(typed, w); n < fewest && 2*n <= len(w) {
			best, fewest = w, n
		}
	}
	return best
}

// edits counts the letters to insert, drop, change or swap with the next (optimal string alignment).
func edits(a, b string) int {
	var before, above []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, above, row = above, row, make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			change := above[j]
			if a[i] != b[j] {
				change++
			}
			row[j+1] = min(row[j]+1, above[j+1]+1, change)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
