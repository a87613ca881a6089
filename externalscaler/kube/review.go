package kube

import (
	"context"
	"fmt"
	"strings"

	runnerv1 "bitbucket-runner-scaler/proto/runner/v1"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"bitbucket-runner-scaler/externalscaler/registrar"
)

// Review implements registrar.TokenReviewer with a TokenReview.
func (c *Cluster) Review(ctx context.Context, token string) (registrar.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	review, err := c.client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{runnerv1.Audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return registrar.Identity{}, fmt.Errorf("review token: %w", err)
	}
	return identity(review.Status)
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
