package runnergroup_test

import (
	"errors"
	"fmt"

	"bitbucket-runner-scaler/externalscaler/runnergroup"
)

func ExampleParse() {
	group, err := runnergroup.Parse(map[string]string{
		"workspace": "acme", "labels": "docker,large", "max": "20", "coolDown": "120",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(group.Workspace, group.Labels, group.Rules.Min, group.Rules.Max, group.Rules.CoolDown)
	fmt.Println(group.RunnerLabels("keda.k8s"))
	// Output:
	// acme [docker large] 1 20 2m0s
	// [docker keda.k8s large linux self.hosted]
}

// Every fault of the metadata is reported at once, each with its key.
func ExampleParse_faults() {
	_, err := runnergroup.Parse(map[string]string{"workspace": "acme", "labels": "docker", "repositry": "app", "max": "many"})
	var invalid *runnergroup.InvalidError
	if errors.As(err, &invalid) {
		for _, fault := range invalid.Faults {
			fmt.Println(fault)
		}
	}
	// Output:
	// max: "many", want a whole number from 0 to 100
	// repositry: unknown key, did you mean repository?
}
