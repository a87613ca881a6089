package kube

import (
	"context"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// clusterWide is what the scaler must be allowed to do in every namespace.
var clusterWide = []authorizationv1.ResourceAttributes{
	{Verb: "list", Group: "keda.sh", Resource: "scaledjobs"},
	{Verb: "watch", Group: "keda.sh", Resource: "scaledjobs"},
	{Verb: "list", Group: "batch", Resource: "jobs"},
	{Verb: "watch", Group: "batch", Resource: "jobs"},
	{Verb: "list", Resource: "pods"},
	{Verb: "watch", Resource: "pods"},
	{Verb: "create", Group: "authentication.k8s.io", Resource: "tokenreviews"},
}

// missingRights returns what the scaler needs and may not do, or why that is not known.
func (c *Cluster) missingRights(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var missing []string
	for _, attributes := range clusterWide {
		review, err := c.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &attributes},
		}, metav1.CreateOptions{})
		switch {
		case err != nil:
			return "the permissions of this ServiceAccount are not known: " + err.Error()
		case !review.Status.Allowed:
			missing = append(missing, strings.TrimSuffix(attributes.Verb+" "+attributes.Resource+"."+attributes.Group, "."))
		}
	}
	if len(missing) == 0 {
		return "this ServiceAccount has every permission: is KEDA installed?"
	}
	return "this ServiceAccount may not " + strings.Join(missing, ", ") +
		": apply the ClusterRole and the ClusterRoleBinding again, and check that the binding names this ServiceAccount in this namespace"
}
