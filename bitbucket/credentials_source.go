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

// maxCredentialFile is the maximum size of a credential's file, in bytes. Real ones have
// less than 1 KiB.
const maxCredentialFile = 64 << 10

// CredentialsFromEnv reads credentials from environment variables. lookup works as
// os.LookupEnv does. CredentialsFromEnv returns ErrNoCredentials if no variable is set,
// otherwise an error with every fault. An empty variable counts as unset.
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

// CredentialsFromDir reads credentials from the files of a directory, such as a mounted
// Secret. The files have the names of the Secret's keys or of the environment variables.
// Other files are ignored. White space around a value is removed, and an empty file counts
// as missing. CredentialsFromDir returns ErrNoCredentials if there is no file.
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
			faults = append(faults, fmt.Errorf("%s and %s contain different values", key.file, key.env))
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

// readCredential returns "" if the file does not exist.
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
		return "", fmt.Errorf("read %s: more than %d bytes", name, maxCredentialFile)
	}
	return strings.TrimSpace(string(data)), nil
}
