package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// places are where the settings of a project may stand, below its folder.
var places = []string{".magpie/magpie.yaml", ".magpie/magpie.yml", ".magpie/magpie.json"}

// Find returns the settings file that is nearest upwards from a folder, "" when there is none. It looks no further up
// than the home folder: what is above belongs to somebody else.
func Find(folder string) (string, error) {
	home, _ := os.UserHomeDir() // without one, up to the root
	for {
		found := in(folder)
		switch {
		case len(found) == 1:
			return found[0], nil
		case len(found) > 1:
			return "", &fault{"settings: there are several: " + strings.Join(found, ", "), fs.ErrExist, "keep one, or name it with --config"}
		}
		up := filepath.Dir(folder)
		if up == folder || folder == home {
			return "", nil
		}
		folder = up
	}
}

func in(folder string) (found []string) {
	for _, place := range places {
		file := filepath.Join(folder, place)
		if info, err := os.Stat(file); err == nil && !info.IsDir() {
			found = append(found, file)
		}
	}
	return found
}
