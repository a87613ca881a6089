package story

import (
	"fmt"
	"time"
)

// Workspace is the workspace of the story.
const Workspace = "acme"

// The repositories of the story.
const (
	app = "app"
	web = "web"
)

// fanOut is how many steps of acme/app begin to wait at once.
const fanOut = 5

// stepsOf is how many steps the pipeline of each repository has.
var stepsOf = map[string]int{app: 1 + fanOut + 1, web: 1 + 2}

// files are the bitbucket-pipelines.yml of the repositories. The times count in paces.
func files(pace time.Duration) map[string]string {
	sleep := func(paces float64) string { return fmt.Sprintf("[sleep %g]", paces*pace.Seconds()) }
	step := func(name, group, more string, paces float64) string {
		return fmt.Sprintf("step: {name: %s, runs-on: [self.hosted, linux, %s], %sscript: %s}", name, group, more, sleep(paces))
	}
	return map[string]string{
		app: `pipelines:
  default:
    - ` + step("Build", "builds", "", 3) + `
    - parallel:
        - ` + step("Unit", "tests", "", 4) + `
        - ` + step("API", "tests", "", 4) + `
        - ` + step("UI", "tests", "", 5) + `
        - ` + step("Load", "tests", "", 5) + `
        - ` + step("Lint", "tests", "", 3) + `
    - ` + step("Deploy", "builds", "trigger: manual, ", 2) + `
`,
		web: `pipelines:
  default:
    - ` + step("Bundle", "builds", "", 6) + `
    - parallel:
        - ` + step("Pages", "tests", "", 3) + `
        - ` + step("Links", "tests", "", 3) + `
`,
	}
}
