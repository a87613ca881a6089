package deploytest

import (
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
)

// The runners of a release's own groups may call its scaler, and are limited, wherever they are.
func TestNetworkPoliciesAreForTheNamespacesOfTheGroups(t *testing.T) {
	const groups = `groups: [{name: a, namespace: team-a, workspace: acme, labels: [a]}, {name: b, namespace: team-a, workspace: acme, labels: [b]}`
	for situation, c := range map[string]struct {
		values string
		want   []string
	}{
		"no groups":                {`networkPolicy: {enabled: true}`, []string{runners}},
		"no groups, namespaces":    {`networkPolicy: {enabled: true, runnerNamespaces: [x, b]}`, []string{"b", "x"}},
		"groups":                   {`{networkPolicy: {enabled: true}, ` + groups + `]}`, []string{"team-a"}},
		"groups by the default":    {`{networkPolicy: {enabled: true}, ` + groups + `, {name: c, workspace: acme, labels: [c]}]}`, []string{runners, "team-a"}},
		"groups and namespaces":    {`{networkPolicy: {enabled: true, runnerNamespaces: [x, team-a]}, ` + groups + `]}`, []string{"team-a", "x"}},
		"another scaler's group":   {`{networkPolicy: {enabled: true}, ` + groups + `, {name: c, namespace: theirs, scaler_address: "other:9090", workspace: acme, labels: [c]}]}`, []string{"team-a"}},
		"our own address, written": {`{networkPolicy: {enabled: true}, groups: [{name: c, namespace: ours, scalerAddress: "` + name + "." + controlPlane + `.svc.cluster.local:9090", workspace: acme, labels: [c]}]}`, []string{"ours"}},
	} {
		t.Run(situation, func(t *testing.T) {
			all, notes, err := charted(controlPlane, with(t, c.values))
			if err != nil {
				t.Fatal(err)
			}
			typed(t, all)
			plane := as[networkingv1.NetworkPolicy](t, all, "NetworkPolicy "+controlPlane+"/"+name)
			if got := plane.Spec.Ingress[0].From[1].NamespaceSelector.MatchExpressions[0].Values; !slices.Equal(got, c.want) {
				t.Errorf("the scaler may be called from %q, want %q", got, c.want)
			}
			var limited []string
			for key := range all {
				if kind, place, _ := strings.Cut(key, " "); kind == "NetworkPolicy" && !strings.HasPrefix(place, controlPlane+"/") {
					namespace, _, _ := strings.Cut(place, "/")
					limited = append(limited, namespace)
				}
			}
			if slices.Sort(limited); !slices.Equal(limited, c.want) {
				t.Errorf("the runners of %q are limited, want %q", limited, c.want)
			}
			if !strings.Contains(notes, "\n  "+strings.Join(c.want, " ")+"\n") {
				t.Errorf("the notes do not name %q:\n%s", c.want, notes)
			}
		})
	}
}
