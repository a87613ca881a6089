// Package credentials resolves the name of a credentials set, as a trigger's
// metadata gives it, to a client of Bitbucket, and says which namespaces may
// use it, and for what. A set is a directory of a mounted Secret, or, for the set `default`,
// the environment. How the credentials are presented to Bitbucket lives in
// package bitbucket.
package credentials

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync"

	"bitbucket-runner-scaler/bitbucket"
)

// Default is the set that a group uses where its metadata names none.
const Default = "default"

// ErrForbidden says that a set does not serve a namespace, or not for that use.
var ErrForbidden = errors.New("credentials set does not serve this")

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
	credentials, _, err := s.open(name, namespace)
	if err != nil {
		return nil, err
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

// Allow says whether a group may use a set for its scope and labels. Client asks for
// the namespace alone, since what runs already must be looked after whatever the set
// serves by now. Errors: ErrForbidden, ErrUnknownSet.
func (s *Store) Allow(name string, use Use) error {
	_, serves, err := s.open(name, use.Namespace)
	if err != nil {
		return err
	}
	if against := serves.allow(use); against != "" {
		return fmt.Errorf("credentials: %q may be used for %s: %w", name, against, ErrForbidden)
	}
	return nil
}

// open reads a set for a namespace.
func (s *Store) open(name, namespace string) (bitbucket.Credentials, Serves, error) {
	credentials, serves, err := s.read(name)
	if err != nil {
		return bitbucket.Credentials{}, Serves{}, fmt.Errorf("credentials: %q: %w: %w", name, ErrUnknownSet, err)
	}
	if !serves.servesNamespace(namespace) {
		return bitbucket.Credentials{}, Serves{}, fmt.Errorf("credentials: %q may be used from namespaces %q, not from %q: %w", name, serves.Namespaces, namespace, ErrForbidden)
	}
	return credentials, serves, nil
}

// read finds a set's credentials and what it serves. The
// environment serves every namespace: who starts the scaler with it has no
// Kubernetes to tell namespaces apart, or has chosen so.
func (s *Store) read(name string) (bitbucket.Credentials, Serves, error) {
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, `/\`) {
		return bitbucket.Credentials{}, Serves{}, errors.New("want the name of a folder")
	}
	if s.dir != "" {
		dir := filepath.Join(s.dir, name)
		credentials, err := bitbucket.CredentialsFromDir(dir)
		if err == nil {
			serves, err := readServes(dir)
			return credentials, serves, err
		}
		if !errors.Is(err, bitbucket.ErrNoCredentials) || name != Default {
			return bitbucket.Credentials{}, Serves{}, err
		}
	}
	if name != Default {
		return bitbucket.Credentials{}, Serves{}, errors.New("only the set default can come from the environment")
	}
	credentials, err := bitbucket.CredentialsFromEnv(s.lookup)
	return credentials, Serves{Namespaces: []string{all}}, err
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
