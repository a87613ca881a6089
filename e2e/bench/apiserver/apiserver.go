// Package apiserver has as much of a Kubernetes API server, in memory and over real HTTP, as the
// scaler needs: lists and watches of Jobs, pods and ScaledJobs, reviews of tokens, and ConfigMaps.
// The scaler's own caches are real. It checks nothing, and who calls is not asked.
package apiserver

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// Kind is a kind of objects that can be listed and watched.
type Kind struct{ version, resource, kind string }

// The kinds.
var (
	Pods       = Kind{"v1", "pods", "Pod"}
	Jobs       = Kind{"batch/v1", "jobs", "Job"}
	ScaledJobs = Kind{"keda.sh/v1alpha1", "scaledjobs", "ScaledJob"}
)

func (k Kind) path() string {
	if k.version == "v1" {
		return "/api/v1/" + k.resource
	}
	return "/apis/" + k.version + "/" + k.resource
}

// Pod is who presents a token.
type Pod struct{ Namespace, Name, UID string }

// Server is the API server, an http.Handler. It is safe for concurrent use.
type Server struct {
	mux *http.ServeMux

	mu       sync.Mutex
	version  int
	objects  map[Kind]map[string]json.RawMessage // by namespace and name
	watchers map[Kind][]chan []byte
	maps     map[string]json.RawMessage // ConfigMaps
	tokens   map[string]Pod
	deleted  int
}

// New returns a Server without objects.
func New() *Server {
	s := &Server{
		mux: http.NewServeMux(), objects: map[Kind]map[string]json.RawMessage{}, watchers: map[Kind][]chan []byte{},
		maps: map[string]json.RawMessage{}, tokens: map[string]Pod{},
	}
	for _, kind := range []Kind{Pods, Jobs, ScaledJobs} {
		s.objects[kind] = map[string]json.RawMessage{}
		s.mux.HandleFunc("GET "+kind.path(), func(w http.ResponseWriter, r *http.Request) { s.read(kind, w, r) })
	}
	s.mux.HandleFunc("DELETE /apis/batch/v1/namespaces/{namespace}/jobs/{name}", s.deleteJob)
	s.mux.HandleFunc("GET /api/v1/namespaces/{name}", func(w http.ResponseWriter, r *http.Request) {
		write(w, http.StatusOK, metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: r.PathValue("name"), UID: "00000000-0000-4000-8000-000000000000"},
		})
	})
	s.mux.HandleFunc("POST /apis/authentication.k8s.io/v1/tokenreviews", s.review)
	const configMaps = "/api/v1/namespaces/{namespace}/configmaps"
	s.mux.HandleFunc("GET "+configMaps+"/{name}", s.getMap)
	s.mux.HandleFunc("PUT "+configMaps+"/{name}", s.putMap)
	s.mux.HandleFunc("POST "+configMaps, s.putMap)
	s.mux.HandleFunc("POST /api/v1/namespaces/{namespace}/events", func(w http.ResponseWriter, r *http.Request) {
		_, event, err := body(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		write(w, http.StatusCreated, event)
	})
	return s
}

// ServeHTTP serves the API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Add adds an object, and announces it to those who watch.
func (s *Server) Add(kind Kind, object metav1.Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.version++
	object.SetResourceVersion(strconv.Itoa(s.version))
	raw, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("add %s %s: %w", kind.kind, object.GetName(), err)
	}
	s.objects[kind][object.GetNamespace()+"/"+object.GetName()] = raw
	s.announce(kind, "ADDED", raw)
	return nil
}

// Admit makes a token that of a pod.
func (s *Server) Admit(token string, pod Pod) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = pod
}

// Deleted counts the Jobs that were deleted.
func (s *Server) Deleted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deleted
}

// announce sends an event to those who watch. Called locked.
func (s *Server) announce(kind Kind, what string, raw json.RawMessage) {
	event, err := json.Marshal(struct {
		Type   string          `json:"type"`
		Object json.RawMessage `json:"object"`
	}{what, raw})
	if err != nil {
		return // both were encoded before
	}
	for _, watcher := range s.watchers[kind] {
		watcher <- event
	}
}

// read lists or watches.
func (s *Server) read(kind Kind, w http.ResponseWriter, r *http.Request) {
	if watching := r.URL.Query().Get("watch"); watching == "true" || watching == "1" {
		s.watch(kind, w, r)
		return
	}
	s.mu.Lock()
	items, version := s.items(kind), s.version
	s.mu.Unlock()
	write(w, http.StatusOK, map[string]any{
		"apiVersion": kind.version, "kind": kind.kind + "List", "metadata": metav1.ListMeta{ResourceVersion: strconv.Itoa(version)}, "items": items,
	})
}

// items are the objects of a kind. Called locked.
func (s *Server) items(kind Kind) []json.RawMessage {
	items := make([]json.RawMessage, 0, len(s.objects[kind]))
	for _, raw := range s.objects[kind] {
		items = append(items, raw)
	}
	return items
}

// watched is how many events may wait for one who watches.
const watched = 20_000

// watch sends the objects that exist, if that is asked for, and then each change.
func (s *Server) watch(kind Kind, w http.ResponseWriter, r *http.Request) {
	initial := r.URL.Query().Get("sendInitialEvents") == "true"
	events := make(chan []byte, watched)
	s.mu.Lock()
	items, version := s.items(kind), s.version
	s.watchers[kind] = append(s.watchers[kind], events)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watchers[kind] = slices.DeleteFunc(s.watchers[kind], func(other chan []byte) bool { return other == events })
	}()
	w.Header().Set("Content-Type", "application/json")
	control := http.NewResponseController(w)
	if initial {
		for _, raw := range items {
			if _, err := fmt.Fprintf(w, `{"type":"ADDED","object":%s}`+"\n", raw); err != nil {
				return
			}
		}
		if _, err := fmt.Fprintf(w, `{"type":"BOOKMARK","object":{"apiVersion":%q,"kind":%q,"metadata":{"resourceVersion":"%d","annotations":{%q:"true"}}}}`+"\n",
			kind.version, kind.kind, version, metav1.InitialEventsAnnotationKey); err != nil {
			return
		}
	}
	for {
		if err := control.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case event := <-events:
			if _, err := w.Write(append(event, '\n')); err != nil { //nolint:gosec // JSON, for the scaler alone
				return
			}
		}
	}
}

func (s *Server) deleteJob(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.PathValue("namespace") + "/" + r.PathValue("name")
	raw, ok := s.objects[Jobs][key]
	if !ok {
		notFound(w)
		return
	}
	s.deleted++
	delete(s.objects[Jobs], key)
	s.announce(Jobs, "DELETED", raw)
	write(w, http.StatusOK, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess})
}

func (s *Server) review(w http.ResponseWriter, r *http.Request) {
	object, _, err := body(r)
	review, ok := object.(*authenticationv1.TokenReview)
	if err != nil || !ok {
		http.Error(w, fmt.Sprintf("no review: %v", err), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	pod, known := s.tokens[review.Spec.Token]
	s.mu.Unlock()
	if known {
		review.Status = authenticationv1.TokenReviewStatus{Authenticated: true, Audiences: []string{runnerv1.Audience}, User: authenticationv1.UserInfo{
			Username: "system:serviceaccount:" + pod.Namespace + ":runner",
			Extra: map[string]authenticationv1.ExtraValue{
				"authentication.kubernetes.io/pod-name": {pod.Name}, "authentication.kubernetes.io/pod-uid": {pod.UID},
			},
		}}
	}
	review.Spec.Token = ""
	write(w, http.StatusCreated, review)
}

func (s *Server) getMap(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stored, ok := s.maps[r.PathValue("name")]; ok {
		write(w, http.StatusOK, stored)
		return
	}
	notFound(w)
}

// putMap creates or replaces a ConfigMap.
func (s *Server) putMap(w http.ResponseWriter, r *http.Request) {
	object, raw, err := body(r)
	stored, ok := object.(*corev1.ConfigMap)
	if err != nil || !ok {
		http.Error(w, fmt.Sprintf("no ConfigMap: %v", err), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maps[stored.Name] = raw
	write(w, http.StatusCreated, raw)
}

// body reads an object, in any form that client-go sends, and returns it in JSON too.
func body(r *http.Request) (object runtime.Object, raw json.RawMessage, err error) {
	sent, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, nil, err
	}
	object, kind, err := scheme.Codecs.UniversalDeserializer().Decode(sent, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	object.GetObjectKind().SetGroupVersionKind(*kind)
	raw, err = json.Marshal(object)
	return object, raw, err
}

func notFound(w http.ResponseWriter) {
	write(w, http.StatusNotFound, metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
		Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound, Message: strings.ToLower(http.StatusText(http.StatusNotFound)),
	})
}

func write(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(value) // the caller has gone
}
