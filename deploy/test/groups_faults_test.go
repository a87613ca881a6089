package deploytest

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"bitbucket-runner-scaler/jobfactory/config"
	"bitbucket-runner-scaler/jobfactory/config/configtest"
)

var groupOf = regexp.MustCompile(`^(groups|config)\[([0-9]+)\]`)

// What `runnerctl render` refuses is refused by the chart too, with the group and the key.
func TestGeneratedBadGroupsAreRefused(t *testing.T) {
	for seed := range uint64(generatedBad) {
		file := configtest.Bad(seed)
		// What is wrong outside of the groups is not in the values.
		faults := slices.DeleteFunc(file.Faults, func(f configtest.Fault) bool { return !groupOf.MatchString(f.Path) })
		if len(faults) == 0 {
			continue
		}
		_, _, err := charted(controlPlane, listed(t, file.YAML))
		switch {
		case err == nil:
			t.Errorf("seed %d: accepted with %v", seed, faults)
		case strings.Contains(err.Error(), "faults of the runner groups"):
			for _, fault := range faults {
				if file.Form != configtest.Older && !strings.Contains(err.Error(), "\n"+strings.TrimSuffix(fault.Path, ".")) {
					t.Errorf("seed %d: %v is not reported: %v", seed, fault, err)
				}
			}
		case !slices.ContainsFunc(faults, func(f configtest.Fault) bool {
			return strings.Contains(err.Error(), "/groups/"+groupOf.FindStringSubmatch(f.Path)[2])
		}):
			t.Errorf("seed %d: %v is not reported: %v", seed, faults, err)
		}
	}
}

// faulty are keys that are added to those of a good group.
type faulty struct {
	Name string `json:"name"`
	Keys object `json:"keys"`
	Says string `json:"says"`
	// Own says that only the chart says so.
	Own bool `json:"own"`
}

func TestBadGroupsAreRefusedInTheWordsOfRender(t *testing.T) {
	text, err := os.ReadFile("testdata/groups-faults.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var bad []faulty
	if err := yaml.UnmarshalStrict(text, &bad); err != nil {
		t.Fatal(err)
	}
	for _, c := range bad {
		t.Run(c.Name, func(t *testing.T) {
			group := parsed(t, `{name: builds, workspace: acme, labels: [builds]}`)
			maps.Copy(group, c.Keys)
			values := object{"groups": []any{group}}
			if _, _, err := charted(controlPlane, with(t, string(encoded(t, values)))); err == nil || !strings.Contains(err.Error(), c.Says) {
				t.Errorf("got %v, want %s", err, c.Says)
			}
			if _, err := config.Read(encoded(t, values)); !c.Own && (err == nil || !strings.Contains(err.Error(), c.Says)) {
				t.Errorf("render says %v, want %s", err, c.Says)
			}
		})
	}
}

func TestGroupsMayUseTheirCredentials(t *testing.T) {
	for name, c := range map[string]struct{ values, want string }{
		"no such set":              {`groups: [{name: a, workspace: acme, labels: [a], credentials: other}]`, `groups[0].credentials: "other", want a set of the value credentials, which has default`},
		"not for this namespace":   {`{credentials: {default: {accessToken: t, namespaces: [x, z]}}, groups: [{name: a, workspace: acme, labels: [a]}]}`, `groups[0].namespace: "bitbucket-runner", want a namespace that may use the credentials: credentials.default.namespaces has x, z`},
		"for this namespace":       {`{credentials: {default: {accessToken: t, namespaces: [x, bitbucket-runner]}}, groups: [{name: a, workspace: acme, labels: [a]}]}`, ""},
		"for all":                  {`{credentials: {default: {accessToken: t, namespaces: ["*"]}}, groups: [{name: a, workspace: acme, labels: [a]}]}`, ""},
		"a Secret that we see not": {`{credentials: {default: {existingSecret: mine}}, groups: [{name: a, workspace: acme, labels: [a]}]}`, ""},
		"another scaler's":         {`groups: [{name: a, workspace: acme, labels: [a], credentials: other, scaler_address: "scaler.other:9090"}]`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := charted(controlPlane, with(t, c.values))
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestAllFaultsOfAllGroupsAreReportedAtOnce(t *testing.T) {
	values := with(t, `groups: [{name: a, workspace: x/y, labels: [A]}, {name: a, workspace: acme, labels: [b], parameters: {max: 0}}]`)
	_, _, err := charted(controlPlane, values)
	for _, want := range []string{"groups[0].workspace", "groups[0].labels", "groups[1].name", "groups[1].parameters.max"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want a fault of %s", err, want)
		}
	}
}

// Keys of the configuration file that are no values lead to what reads them.
func TestTheOlderFormIsReadByRender(t *testing.T) {
	for _, values := range []string{`config: [{name: a}]`, `constants: {runner_cool_down_period: 450}`} {
		if _, _, err := charted(controlPlane, with(t, values)); err == nil || !strings.Contains(err.Error(), "runnerctl render") {
			t.Errorf("%s: got %v, want the command that reads it", values, err)
		}
	}
}
