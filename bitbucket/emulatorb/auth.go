package emulator

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// scopes of the identities: what each permission of a route needs.
var fullScopes = []string{"account", "repository", "pipeline", "pipeline:write", "runner", "runner:write"}

// identity is who calls: its allowance is its own.
type identity struct {
	name        string
	scopes      []string
	accessToken bool // X-RateLimit headers come only with these
}

var identities = map[string]identity{
	"Basic dev@example.com:emulator-token": {"dev@example.com", fullScopes, false},
	"Basic dev:emulator-app-password":      {"dev", fullScopes, false},
	"Bearer emulator-access-token":         {"access token", fullScopes, true},
	"Bearer emulator-readonly-token":       {"read-only token", []string{"account", "repository", "pipeline", "runner"}, true},
}

// issued is an OAuth consumer's token.
type issued struct{ expires time.Time }

func (s *Server) oauthToken(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	if id == "" {
		id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
	}
	refuse := func(code, description string) {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": description})
	}
	switch {
	case r.PostFormValue("grant_type") != "client_credentials":
		refuse("unsupported_grant", "The specified grant is not supported")
	case id == "emulator-public" && secret == "emulator-secret":
		refuse("invalid_grant", "Cannot use client_credentials with a consumer marked as \"public\". Please ensure this consumer is marked as \"private\".")
	case id != "emulator-client" || secret != "emulator-secret":
		writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "unauthorized_client", "error_description": "Client credentials missing or invalid"})
	default:
		token := uuid.NewString()
		s.mu.Lock()
		now := s.options.Clock.Now()
		for old, t := range s.tokens {
			if now.After(t.expires) {
				delete(s.tokens, old)
			}
		}
		s.tokens[token] = issued{expires: now.Add(s.options.TokenLifetime)}
		s.mu.Unlock()
		writeJSON(w, http.StatusOK, map[string]any{
			"access_token": token, "scopes": strings.Join(fullScopes, " "), "expires_in": int(s.options.TokenLifetime.Seconds()), "token_type": "bearer",
		})
	}
}

// authorize finds the caller, counts the call, and holds it to its permissions.
// Called locked.
func (s *Server) authorize(w http.ResponseWriter, r *http.Request, permission string) error {
	who, ok := s.identify(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="Bitbucket.org HTTP"`)
		return fail(http.StatusUnauthorized, "Access token expired. Use your refresh token to obtain a new access token.")
	}
	if who.accessToken {
		w.Header().Set("X-RateLimit-Limit", strconv.Itoa(s.options.RateLimit))
		w.Header().Set("X-RateLimit-Resource", "api-other")
		w.Header().Set("X-RateLimit-NearLimit", strconv.FormatBool(s.callsLastHour(who.name)*5 > s.options.RateLimit*4))
	}
	if s.callsLastHour(who.name) >= s.options.RateLimit {
		s.counters.TooManyRequests++
		return &apiError{status: http.StatusTooManyRequests, message: "Rate limit for this resource has been exceeded", plain: true}
	}
	s.spend(who.name)
	if !slices.Contains(who.scopes, permission) {
		return &apiError{
			status: http.StatusForbidden, message: "Your credentials lack one or more required privilege scopes.",
			detail: map[string][]string{"required": {permission}, "granted": who.scopes},
		}
	}
	return nil
}

func (s *Server) identify(r *http.Request) (identity, bool) {
	if user, password, ok := r.BasicAuth(); ok {
		who, known := identities["Basic "+user+":"+password]
		return who, known
	}
	header := r.Header.Get("Authorization")
	if who, known := identities[header]; known {
		return who, true
	}
	token, known := s.tokens[strings.TrimPrefix(header, "Bearer ")]
	return identity{"emulator-client", fullScopes, false}, known && s.options.Clock.Now().Before(token.expires)
}

// spend counts a call in its minute; callsLastHour adds the last sixty up.
func (s *Server) spend(who string) {
	minute := s.options.Clock.Now().Unix() / 60
	if s.spent[who] == nil {
		s.spent[who] = map[int64]int{}
	}
	s.spent[who][minute]++
	for old := range s.spent[who] {
		if old <= minute-60 {
			delete(s.spent[who], old)
		}
	}
}

func (s *Server) callsLastHour(who string) int {
	minute, calls := s.options.Clock.Now().Unix()/60, 0
	for m, n := range s.spent[who] {
		if m > minute-60 {
			calls += n
		}
	}
	return calls
}
