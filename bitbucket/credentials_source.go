package bitbucket

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// maxCredentialFile bounds a credential's file; real ones have under 1 KiB.
const maxCredentialFile = 64 << 10

// CredentialsFromEnv reads credentials from environment variables, which lookup
// finds as os.LookupEnv does. It returns ErrNoCredentials when none is set, and
// every fault of those that are. An empty variable counts as unset.
func CredentialsFromEnv(lookup func(string) (string, bool)) (Credentials, error) {
	var c Credentials
	for _, key := range credentialKeys {
		if value, ok := lookup(key.env); ok {
			key.set(&c, strings.TrimSpace(value))
		}
	}
	if err := c.Validate(); err != nil {
		return Credentials{}, fmt.Errorf("credentials from the environment: %w", err)
	}
	return c, nil
}

// CredentialsFromDir reads credentials from the files of a directory, such as a
// mounted Secret, named by the Secret's keys or by the environment variables.
// Space around a value is dropped and an empty file counts as none; other files
// are not looked at. It returns ErrNoCredentials when no file is there.
func CredentialsFromDir(dir string) (Credentials, error) {
	var (
		c      Credentials
		faults []error
	)
	for _, key := range credentialKeys {
		value, err := readCredential(dir, key.file)
		if err != nil {
			faults = append(faults, err)
		}
		other, err := readCredential(dir, key.env)
		if err != nil {
			faults = append(faults, err)
		}
		if value != "" && other != "" && value != other {
			faults = append(faults, fmt.Errorf("%s and %s hold different values", key.file, key.env))
		}
		if value == "" {
			value = other
		}
		key.set(&c, value)
	}
	if len(faults) == 0 {
		if err := c.Validate(); err != nil {
			faults = append(faults, err)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return Credentials{}, fmt.Errorf("credentials in %s: %w", dir, err)
	}
	return c, nil
}

// readCredential returns "" for a file that is not there.
func readCredential(dir, name string) (string, error) {
	file, err := os.Open(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { _ = file.Close() }()
	data, err := io.ReadAll(io.LimitReader(file, maxCredentialFile+1))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxCredentialFile {
		return "", fmt.Errorf("read %s: over %d bytes", name, maxCredentialFile)
	}
	return strings.TrimSpace(string(data)), nil
}
