package kube

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"bitbucket-runner-scaler/externalscaler/registrar"
	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"
)

// signed makes a token with these claims, signed by a key that no cluster has.
func signed(t *testing.T, audience string, expiry time.Time) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: make([]byte, 32)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(jwt.Claims{Audience: jwt.Audience{audience}, Expiry: jwt.NewNumericDate(expiry)}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	// A header of an algorithm that clusters use: the signature is not looked at here.
	_, rest, _ := strings.Cut(token, ".")
	return "eyJhbGciOiJSUzI1NiJ9." + rest
}

func TestOnlyPlausibleTokensAreReviewed(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		token string
		want  bool
	}{
		"for our audience":         {signed(t, runnerv1.Audience, now.Add(time.Hour)), true},
		"expired by a little skew": {signed(t, runnerv1.Audience, now.Add(-30*time.Second)), true},
		"expired":                  {signed(t, runnerv1.Audience, now.Add(-2*time.Minute)), false},
		"for another audience":     {signed(t, "vault", now.Add(time.Hour)), false},
		"no JWT":                   {"garbage", false},
		"empty":                    {"", false},
		"too long":                 {strings.Repeat("a", maxToken) + signed(t, runnerv1.Audience, now.Add(time.Hour)), false},
		"no signature":             {"eyJhbGciOiJub25lIn0.eyJhdWQiOlsiYml0YnVja2V0LXJ1bm5lci1zY2FsZXIiXX0.", false},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			client := fake.NewClientset()
			client.PrependReactor("create", "tokenreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
				asked++
				return true, &authenticationv1.TokenReview{}, nil
			})
			c2 := &Cluster{reviews: client}
			if _, err := c2.Review(t.Context(), c.token); !errors.Is(err, registrar.ErrToken) || strings.Contains(err.Error(), "eyJ") {
				t.Errorf("got %v, want a refusal without a part of the token", err)
			}
			if (asked == 1) != c.want {
				t.Errorf("%d reviews, want one: %v", asked, c.want)
			}
		})
	}
}
