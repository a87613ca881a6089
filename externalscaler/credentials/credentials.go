// Package credentials resolves the name of a credentials set, as given in a trigger's
// metadata, to a Bitbucket client. It decides which namespaces may use a set, and for
// what. A set is a directory of a mounted Secret. The set `default` can also come from
// the environment. Authentication at Bitbucket is in package bitbucket.
package credentials

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"

	"bitbucket-runner-scaler/bitbucket"
)

// Default is the set that a group uses if its metadata names none.
const Default = "default"

// ErrForbidden means that a set does not serve the namespace, scope or labels.
var ErrForbidden = errors.New("credentials refused")

// ErrUnknownSet means that there is no set of that name, or that it is not usable.
var ErrUnknownSet = errors.New("no usable credentials set")

// Store holds the clients of all sets. Safe for concurrent use.
type Store struct {
	// dir contains one folder per set. If it is empty, only the environment is used.
	dir string
	// environment returns the credentials of the environment, which is read once: that of
	// a process does not change.
	environment func() (bitbucket.Credentials, error)
	lookup      func(string) (string, bool)
	client      func(name string, credentials bitbucket.Credentials) (*bitbucket.Client, error)

	mu    sync.Mutex
	sets  map[string]set
	files map[string]files // by name of the set
}

type set struct {
	credentials bitbucket.Credentials
	client      *bitbucket.Client
}

// NewStore returns a Store that reads the environment and dir, a directory with one
// folder per set. dir may be empty. newClient makes the client of a set and is called
// again when the set's credentials change.
func NewStore(dir string, lookup func(string) (string, bool), newClient func(name string, credentials bitbucket.Credentials) (*bitbucket.Client, error)) *Store {
	environment := sync.OnceValues(func() (bitbucket.Credentials, error) { return bitbucket.CredentialsFromEnv(lookup) })
	return &Store{dir: dir, environment: environment, lookup: lookup, client: newClient, sets: map[string]set{}, files: map[string]files{}}
}

// Client returns the client of a set for a group in a namespace. A rotated Secret takes
// effect at the next call, without a restart.
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
		old.Close() // closes idle connections; calls in progress finish
	}
	s.sets[name] = set{credentials: credentials, client: client}
	return client, nil
}

// Allow returns nil if a group may use a set for its scope and labels. Client checks
// only the namespace, because runners that exist must be managed even if the set no
// longer allows their scope. Errors: ErrForbidden, ErrUnknownSet.
func (s *Store) Allow(name string, use Use) error {
	_, serves, err := s.open(name, use.Namespace)
	if err != nil {
		return err
	}
	if refusal := serves.refusal(use); refusal != "" {
		return fmt.Errorf("%w: %q may not be used for %s", ErrForbidden, name, refusal)
	}
	return nil
}

// open reads a set and checks the namespace.
func (s *Store) open(name, namespace string) (bitbucket.Credentials, Serves, error) {
	credentials, serves, err := s.read(name)
	if err != nil {
		return bitbucket.Credentials{}, Serves{}, fmt.Errorf("credentials: %q: %w: %w", name, ErrUnknownSet, err)
	}
	if !serves.servesNamespace(namespace) {
		return bitbucket.Credentials{}, Serves{}, fmt.Errorf("%w: %q may not be used from namespace %q: its key %s does not list it", ErrForbidden, name, namespace, namespacesFile)
	}
	return credentials, serves, nil
}

// read returns a set's credentials and what it serves. The environment serves every
// namespace, because an operator who starts the scaler with it either runs it without
// Kubernetes or chose to.
func (s *Store) read(name string) (bitbucket.Credentials, Serves, error) {
	if name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, `/\`) {
		return bitbucket.Credentials{}, Serves{}, errors.New("want the name of a folder")
	}
	if s.dir != "" {
		credentials, serves, err := s.readFiles(name)
		if err == nil {
			return credentials, serves, nil
		}
		if !errors.Is(err, bitbucket.ErrNoCredentials) || name != Default {
			return bitbucket.Credentials{}, Serves{}, err
		}
	}
	if name != Default {
		return bitbucket.Credentials{}, Serves{}, errors.New("only the set default can come from the environment")
	}
	credentials, err := s.environment()
	return credentials, Serves{Namespaces: []string{all}}, err
}

// Clients returns the clients made so far, by set. Metrics use it.
func (s *Store) Clients() map[string]*bitbucket.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	clients := make(map[string]*bitbucket.Client, len(s.sets))
	for name, known := range maps.All(s.sets) {
		clients[name] = known.client
	}
	return clients
}
