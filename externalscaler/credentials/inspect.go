package credentials

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bitbucket-runner-scaler/bitbucket"
)

// Set is a credentials set as a look at its files found it.
type Set struct {
	Name string
	// Source is the set's folder, or Environment.
	Source string
	// Credentials are empty where Faults tells why they cannot be used.
	Credentials bitbucket.Credentials
	// Serves is what it may be used for.
	Serves Serves
	// Faults are all that is wrong with the files, each naming its file, and never
	// a value.
	Faults []string
}

// Environment is the Source of a set that comes from variables.
const Environment = "environment"

// Inspect looks at every set that a Store over the same directory and environment
// would serve, and at what is wrong with any of them. It is stricter than the
// Store: a file that the Store would pass over may be a slip of the pen. The error
// is of a directory that cannot be read at all.
func Inspect(dir string, lookup func(string) (string, bool)) ([]Set, error) {
	var sets []Set
	if dir != "" {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("credentials directory: %w", err)
		}
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), ".") {
				continue // a volume's own
			}
			sets = append(sets, inspectFolder(dir, entry.Name()))
		}
	}
	environment, err := bitbucket.CredentialsFromEnv(lookup)
	i := slices.IndexFunc(sets, func(s Set) bool { return s.Name == Default })
	switch {
	case i >= 0 && !errors.Is(err, bitbucket.ErrNoCredentials) && !hasKeys(sets[i].Source):
		sets[i] = Set{Name: Default, Source: Environment, Credentials: environment, Serves: Serves{Namespaces: []string{all}}, Faults: lines(err)}
	case i >= 0: // the folder goes before the environment
	case err == nil || !errors.Is(err, bitbucket.ErrNoCredentials) || len(sets) == 0:
		sets = append(sets, Set{Name: Default, Source: Environment, Credentials: environment, Serves: Serves{Namespaces: []string{all}}, Faults: lines(err)})
	}
	return sets, nil
}

func inspectFolder(dir, name string) Set {
	set := Set{Name: name, Source: filepath.Join(dir, name)}
	fault := func(format string, args ...any) { set.Faults = append(set.Faults, fmt.Sprintf(format, args...)) }
	if info, err := os.Stat(set.Source); err == nil && !info.IsDir() {
		fault("%s: is a file, want a folder for each set, with the keys as files in it", name)
		return set
	}
	entries, err := os.ReadDir(set.Source)
	if err != nil {
		fault("%s: %v", name, cause(err))
		return set
	}
	for _, entry := range entries {
		if text := inspectFile(set.Source, entry.Name()); text != "" {
			fault("%s", text)
		}
	}
	credentials, err := bitbucket.CredentialsFromDir(set.Source)
	if err == nil {
		set.Credentials = credentials
	}
	for _, line := range lines(err) {
		if !slices.ContainsFunc(set.Faults, func(told string) bool { return sameFile(told, line) }) {
			fault("%s", line)
		}
	}
	set.Serves, err = readServes(set.Source)
	if err == nil { // else the file is named already
		set.Faults = append(set.Faults, set.Serves.faults()...)
	}
	return set
}

// inspectFile says what is wrong with one file of a set's folder; empty if nothing.
func inspectFile(dir, name string) string {
	if strings.HasPrefix(name, "..") {
		return "" // a mounted Secret's own
	}
	keys, variables := bitbucket.CredentialKeys()
	keys = append(keys, servesFiles()...)
	if !slices.Contains(keys, name) && !slices.Contains(variables, name) {
		for _, known := range keys {
			if strings.EqualFold(known, strings.NewReplacer("_", "", "-", "", ".txt", "").Replace(name)) {
				return fmt.Sprintf("%s: unknown key, want %s?", name, known)
			}
		}
		return fmt.Sprintf("%s: unknown key, want %s", name, strings.Join(keys, ", "))
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	switch {
	case err != nil:
		return fmt.Sprintf("%s: %v", name, cause(err))
	case slices.Contains(servesFiles(), name): // what is in it is looked at as a whole
	case strings.TrimSpace(string(data)) == "":
		return name + ": empty"
	}
	return ""
}

// hasKeys tells whether any file of credentials is there: then the environment is
// not looked at.
func hasKeys(dir string) bool {
	_, err := bitbucket.CredentialsFromDir(dir)
	return !errors.Is(err, bitbucket.ErrNoCredentials)
}

// sameFile tells whether two faults are of one file that cannot be read.
func sameFile(told, line string) bool {
	name, _, _ := strings.Cut(told, ":")
	return strings.HasPrefix(line, "read "+name+":")
}

// lines are the faults of what package bitbucket read, one each, without where it
// read them.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	if inner := errors.Unwrap(err); inner != nil {
		err = inner
	}
	return strings.Split(err.Error(), "\n")
}

// cause is an error of a file without its path, which the fault names.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
