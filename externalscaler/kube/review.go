package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/externalscaler/registrar"
)

// Review implements registrar.TokenReviewer with a TokenReview, unless the token itself
// shows that it is worthless.
func (c *Cluster) Review(ctx context.Context, token string) (registrar.Identity, error) {
	if err := plausible(token, time.Now()); err != nil {
		return registrar.Identity{}, fmt.Errorf("%w: %w", registrar.ErrToken, err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	review, err := c.reviews.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{runnerv1.Audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return registrar.Identity{}, fmt.Errorf("review token: %w", err)
	}
	return identity(review.Status)
}

// maxToken is several times the length of a ServiceAccount token, in bytes.
const maxToken = 16 << 10

// clockSkew is how far the clocks of the scaler and the API server may be apart.
const clockSkew = time.Minute

// signatures are the algorithms with which a cluster may sign ServiceAccount tokens.
var signatures = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// plausible returns why the API server would refuse a token, as far as the token itself
// shows: its form, its audience and its expiry. It does not check the signature, so it
// proves nothing of a token that it accepts.
func plausible(token string, now time.Time) error {
	if len(token) > maxToken {
		return fmt.Errorf("%d bytes, want at most %d", len(token), maxToken)
	}
	parsed, err := jwt.ParseSigned(token, signatures)
	if err != nil {
		return errors.New("not a signed JWT") // the error's text may contain parts of the token
	}
	var claims jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return errors.New("its claims cannot be read")
	}
	if !claims.Audience.Contains(runnerv1.Audience) {
		return fmt.Errorf("its audience is not %s", runnerv1.Audience)
	}
	if claims.Expiry == nil || now.After(claims.Expiry.Time().Add(clockSkew)) {
		return errors.New("it has expired")
	}
	return nil
}

// The keys under which a TokenReview names the pod to which the token is bound
// (k8s.io/apiserver/pkg/authentication/serviceaccount).
const (
	podNameKey           = "authentication.kubernetes.io/pod-name"
	podUIDKey            = "authentication.kubernetes.io/pod-uid"
	serviceAccountPrefix = "system:serviceaccount:"
)

func identity(status authenticationv1.TokenReviewStatus) (registrar.Identity, error) {
	if !status.Authenticated {
		return registrar.Identity{}, fmt.Errorf("%w (audience %s): %s", registrar.ErrToken, runnerv1.Audience, status.Error)
	}
	account, ok := strings.CutPrefix(status.User.Username, serviceAccountPrefix)
	namespace, _, _ := strings.Cut(account, ":")
	name, uid := status.User.Extra[podNameKey], status.User.Extra[podUIDKey]
	if !ok || len(name) != 1 || len(uid) != 1 {
		return registrar.Identity{}, fmt.Errorf("%w: %q is not bound to a pod", registrar.ErrToken, status.User.Username)
	}
	// An authenticator that ignores audiences returns none.
	for _, audience := range status.Audiences {
		if audience == runnerv1.Audience {
			return registrar.Identity{Namespace: namespace, PodName: name[0], PodUID: uid[0]}, nil
		}
	}
	return registrar.Identity{}, fmt.Errorf("%w: its audience is not %s", registrar.ErrToken, runnerv1.Audience)
}
