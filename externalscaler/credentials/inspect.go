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

// Set is a credentials set as Inspect found it.
type Set struct {
	Name string
	// Source is the set's folder, or Environment.
	Source string
	// Credentials is empty if Faults says why the credentials cannot be used.
	Credentials bitbucket.Credentials
	// Serves is what the set may be used for.
	Serves Serves
	// Faults lists every fault of the files. Each names its file and never contains a
	// secret.
	Faults []string
}

// Environment is the Source of a set that comes from environment variables.
const Environment = "environment"

// Inspect returns every set that a Store with the same directory and environment
// would serve, with its faults. It is stricter than the Store: a file that the Store
// ignores may have a misspelt name. Inspect returns an error if the directory cannot be read.
func Inspect(dir string, lookup func(string) (string, bool)) ([]Set, error) {
	var sets []Set
	if dir != "" {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("credentials directory: %w", err)
		}
		for _, entry := range entries {
			if strings.HasPrefix(entry.Name(), ".") {
				continue // internal to the volume
			}
			sets = append(sets, inspectFolder(dir, entry.Name()))
		}
	}
	environment, err := bitbucket.CredentialsFromEnv(lookup)
	_, webhooks := webhookSecretsOf(lookup)
	fromEnvironment := Set{
		Name: Default, Source: Environment, Credentials: environment, Serves: Serves{Namespaces: []string{all}},
		Faults: append(lines(err), lines(webhooks)...),
	}
	i := slices.IndexFunc(sets, func(s Set) bool { return s.Name == Default })
	switch {
	case i >= 0 && !errors.Is(err, bitbucket.ErrNoCredentials) && !hasKeys(sets[i].Source):
		sets[i] = fromEnvironment
	case i >= 0: // the folder takes precedence over the environment
	case err == nil || !errors.Is(err, bitbucket.ErrNoCredentials) || len(sets) == 0:
		sets = append(sets, fromEnvironment)
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
	_, webhooks := webhookSecretsIn(set.Source)
	for _, line := range append(lines(err), lines(webhooks)...) {
		if !slices.ContainsFunc(set.Faults, func(reported string) bool { return sameFile(reported, line) }) {
			fault("%s", line)
		}
	}
	set.Serves, err = readServes(set.Source)
	if err == nil { // otherwise inspectFile has reported the file
		set.Faults = append(set.Faults, set.Serves.faults()...)
	}
	return set
}

// inspectFile returns the fault of one file of a set's folder, or "" if there is none.
func inspectFile(dir, name string) string {
	if strings.HasPrefix(name, "..") {
		return "" // internal to the mounted Secret
	}
	keys, variables := bitbucket.CredentialKeys()
	webhooks, webhookVariables := webhookFiles()
	keys, variables = slices.Concat(keys, webhooks, servesFiles()), append(variables, webhookVariables...)
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
	case slices.Contains(servesFiles(), name): // Serves.faults checks the content
	case strings.TrimSpace(string(data)) == "":
		return name + ": empty"
	}
	return ""
}

// hasKeys reports whether the directory contains any file of credentials. If it does,
// the environment is not used.
func hasKeys(dir string) bool {
	_, err := bitbucket.CredentialsFromDir(dir)
	return !errors.Is(err, bitbucket.ErrNoCredentials)
}

// sameFile reports whether two faults are about the same unreadable file.
func sameFile(reported, line string) bool {
	name, _, _ := strings.Cut(reported, ":")
	return strings.HasPrefix(line, "read "+name+":")
}

// lines splits an error of package bitbucket into its faults, without the prefix that
// says where they were read.
func lines(err error) []string {
	if err == nil {
		return nil
	}
	if inner := errors.Unwrap(err); inner != nil {
		err = inner
	}
	return strings.Split(err.Error(), "\n")
}

// cause returns a file's error without the path, because the fault names the file.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
