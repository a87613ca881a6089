package emulator

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/access"
)

// token is a token that the token endpoint issued.
type token struct {
	credential access.Credential
	expires    time.Time
}

// maxTokens bounds the memory. A client whose token was dropped requests a new one.
const maxTokens = 10_000

// authenticate returns the call's credential.
func (s *Server) authenticate(c *call) (refusal answer, ok bool) {
	if user, password, basic := c.BasicAuth(); basic {
		c.credential, ok = access.Basic(user, password)
	} else if bearer, is := bearerToken(c.Request); is {
		if c.credential, ok = access.Bearer(bearer); !ok {
			issued, known := s.tokens[bearer]
			c.credential, ok = issued.credential, known && c.now.Before(issued.expires)
		}
	}
	if ok {
		return answer{}, true
	}
	refusal = failure(http.StatusUnauthorized, "Token is invalid, expired, or not supported for this endpoint.")
	refusal.header = map[string]string{"WWW-Authenticate": `Basic realm="Bitbucket.org HTTP"`}
	return refusal, false
}

func bearerToken(r *http.Request) (value string, ok bool) {
	scheme, value, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return value, ok && strings.EqualFold(scheme, "bearer") && value != ""
}

// missingScope returns a 403 that lists the required and the granted scopes.
func missingScope(required string, c access.Credential) answer {
	return jsonAnswer(http.StatusForbidden, errorBody{Type: "error", Error: errorDetail{
		Message: "Your credentials lack one or more required privilege scopes.",
		Detail:  map[string][]string{"required": {c.Named(required)}, "granted": c.Granted()},
	}})
}

const allowanceWindow = time.Hour

// spend counts a call in the credential's rolling hour.
func (s *Server) spend(c *call) (refusal answer, ok bool) {
	limit := s.options.RateLimit
	if limit < 0 {
		return answer{}, true
	}
	times := s.spent[c.credential.Name]
	gone := 0
	for gone < len(times) && c.now.Sub(times[gone]) >= allowanceWindow {
		gone++
	}
	times = times[gone:]
	if len(times) >= limit {
		s.spent[c.credential.Name] = times
		s.counters.TooManyRequests++
		return tooManyRequests(), false
	}
	s.spent[c.credential.Name] = append(times, c.now)
	return answer{}, true
}

// limitHeaders adds the headers that Bitbucket sends only for access tokens. They do not
// contain how many calls remain.
func (s *Server) limitHeaders(c *call, a *answer) {
	limit := s.options.RateLimit
	if c.credential.Kind != access.KindAccessToken || limit < 0 {
		return
	}
	if a.header == nil {
		a.header = map[string]string{}
	}
	a.header["X-RateLimit-Limit"] = strconv.Itoa(limit)
	a.header["X-RateLimit-Resource"] = "api"
	a.header["X-RateLimit-NearLimit"] = strconv.FormatBool(5*len(s.spent[c.credential.Name]) >= 4*limit)
}

// oauthError is the error body of RFC 6749.
type oauthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// oauthToken is the answer of both token endpoints.
type oauthToken struct {
	AccessToken string `json:"access_token"`
	Scopes      string `json:"scopes,omitempty"`
	ExpiresIn   int    `json:"expires_in"`
	TokenType   string `json:"token_type"`
}

// clientCredentials reads a token request: basic authentication, or the form.
func clientCredentials(c *call) (id, secret string, refusal answer, ok bool) {
	form, err := url.ParseQuery(string(c.body))
	if err != nil {
		return "", "", jsonAnswer(http.StatusBadRequest, oauthError{"invalid_request", "The body is not a form."}), false
	}
	if grant := form.Get("grant_type"); grant != "client_credentials" {
		return "", "", jsonAnswer(http.StatusBadRequest, oauthError{"unsupported_grant_type", fmt.Sprintf("Unsupported grant type: %q", grant)}), false
	}
	id, secret, ok = c.BasicAuth()
	if !ok {
		id, secret = form.Get("client_id"), form.Get("client_secret")
	}
	return id, secret, answer{}, true
}

func invalidGrant(message string) answer {
	return jsonAnswer(http.StatusBadRequest, oauthError{"invalid_grant", message})
}

// consumerToken is Bitbucket's own token endpoint, for OAuth consumers.
func (s *Server) consumerToken(c *call) answer {
	id, secret, refusal, ok := clientCredentials(c)
	if !ok {
		return refusal
	}
	if id != OAuthClientID || !same(secret, OAuthClientSecret) {
		return invalidGrant("Invalid OAuth client credentials")
	}
	for value, t := range s.tokens {
		if !c.now.Before(t.expires) || len(s.tokens) >= maxTokens {
			delete(s.tokens, value)
		}
	}
	value := newSecret()
	s.tokens[value] = token{credential: access.Consumer, expires: c.now.Add(s.options.TokenLifetime)}
	return jsonAnswer(http.StatusOK, oauthToken{
		AccessToken: value, Scopes: strings.Join(access.Consumer.Granted(), " "),
		ExpiresIn: int(s.options.TokenLifetime / time.Second), TokenType: "bearer",
	})
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
