package teardown

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPlanIsReadAsItWasWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "plan.json")
	want := &Plan{Dir: t.TempDir(), Marker: "NAME=value", CgroupRoot: "pods", Bridge: "br", Tables: []string{"ip t"},
		ForwardRules: [][]string{{"-i", "br"}}}
	want.Observe()
	if err := want.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the plan (-want +got):\n%s", diff)
	}
}

func TestPlanThatWouldDeleteTooMuchIsRefused(t *testing.T) {
	for name, content := range map[string]string{
		"nothing in it":     `{}`,
		"the root":          `{"dir":"/","marker":"A=b","cgroupRoot":"pods"}`,
		"a top folder":      `{"dir":"/tmp","marker":"A=b","cgroupRoot":"pods"}`,
		"a way back up":     `{"dir":"/tmp/a/..","marker":"A=b","cgroupRoot":"pods"}`,
		"a relative folder": `{"dir":"a/b/c","marker":"A=b","cgroupRoot":"pods"}`,
		"all processes":     `{"dir":"/tmp/a","cgroupRoot":"pods"}`,
		"all cgroups":       `{"dir":"/tmp/a","marker":"A=b"}`,
		"not a plan":        `dir: /tmp/a`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "plan.json")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if plan, err := Load(path); err == nil {
				t.Errorf("got %+v, want an error", plan)
			}
		})
	}
}
