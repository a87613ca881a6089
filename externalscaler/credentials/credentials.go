// Package credentials resolves the name of a credentials set, as a trigger's
// metadata gives it, to a client of Bitbucket, and says which namespaces may
// use it. A set is a directory of a mounted Secret, or, for the set `default`,
// the environment. How the credentials are presented to Bitbucket lives in
// package bitbucket.
package credentials

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"bitbucket-runner-scaler/bitbucket"
)

// Default is the set that a group uses where its metadata names none.
const Default = "default"

// namespacesFile lists the namespaces a set serves, one a line; `*` is all.
const namespacesFile = "namespaces"

// ErrForbidden says that a set does not serve a namespace.
var ErrForbidden = errors.New("credentials set does not serve this namespace")

// ErrUnknownSet says that there is no set of that name, or that it is not usable.
var ErrUnknownSet = errors.New("no usable credentials set")

// Store holds the clients of all sets. Safe for concurrent use.
type Store struct {
	// dir has one folder a set; empty: the environment alone.
	dir    string
	lookup func(string) (string, bool)
	client func(name string, credentials bitbucket.Credentials) (*bitbucket.Client, error)

	mu   sync.Mutex
	sets map[string]set
}

type set struct {
	credentials bitbucket.Credentials
	client      *bitbucket.Client
}

// NewStore makes a Store over a directory with one folder a set (may be empty)
// and the environment. newClient makes the client of a set; it is called again
// when the set's credentials change.
func NewStore(dir string, lookup func(string) (string, bool), newClient func(name string, credentials bitbucket.Credentials) (*bitbucket.Client, error)) *Store {
	return &Store{dir: dir, lookup: lookup, client: newClient, sets: map[string]set{}}
}

// Client gives the client of a set to a group of that namespace. The files are
// read at each call, so that a rotated Secret takes effect without a restart.
// Errors: ErrForbidden, ErrUnknownSet.
func (s *Store) Client(name, namespace string) (*bitbucket.Client, error) {
	credentials, namespaces, err := s.read(name)
	if err != nil {
		return nil, fmt.Errorf("credentials: %q: %w: %w", name, ErrUnknownSet, err)
	}
	if !slices.Contains(namespaces, namespace) && !slices.Contains(namespaces, "*") {
		return nil, fmt.Errorf("credentials: %q may be used from namespaces %q, not from %q: %w", name, namespaces, namespace, ErrForbidden)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.sets[name]; ok && known.credentials == credentials {
		return known.client, nil
	}
	client, err := s.client(name, credentials)
	if err != nil {
		return nil, fmt.Errorf("credentials: %q: %w: %w", name, ErrUnknownSet, err)
	}
	if old := s.sets[name].client; old != nil {
		old.Close() // drops idle connections; calls under way come to their end
	}
	s.sets[name] = set{credentials: credentials, client: client}
	return client, nil
}

// read finds a set's credentials and the namespaces that it serves. The
// environment serves every namespace: who starts the scaler with it has no
// Kubernetes to tell namespaces apart, or has chosen so.
func (s *Store) read(name string) (bitbucket.Credentials, []string, error) {
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, `/\`) {
		return bitbucket.Credentials{}, nil, errors.New("want the name of a folder")
	}
	if s.dir != "" {
		dir := filepath.Join(s.dir, name)
		credentials, err := bitbucket.CredentialsFromDir(dir)
		if err == nil {
			namespaces, err := readNamespaces(dir)
			return credentials, namespaces, err
		}
		if !errors.Is(err, bitbucket.ErrNoCredentials) || name != Default {
			return bitbucket.Credentials{}, nil, err
		}
	}
	if name != Default {
		return bitbucket.Credentials{}, nil, errors.New("only the set default can come from the environment")
	}
	credentials, err := bitbucket.CredentialsFromEnv(s.lookup)
	return credentials, []string{"*"}, err
}

func readNamespaces(dir string) ([]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, namespacesFile)) //nolint:gosec // a path below the operator's own directory
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // closed by default
	}
	if err != nil {
		return nil, fmt.Errorf("read namespaces: %w", err)
	}
	return strings.Fields(string(text)), nil
}

// Clients are the clients made so far, by set, for metrics.
func (s *Store) Clients() map[string]*bitbucket.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	clients := make(map[string]*bitbucket.Client, len(s.sets))
	for name, known := range maps.All(s.sets) {
		clients[name] = known.client
	}
	return clients
}
