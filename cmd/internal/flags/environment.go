package flags

import (
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"bitbucket-runner-scaler/externalscaler/runnergroup/spelling"
)

// injected matches the rest of a variable that Kubernetes sets for a Service whose name is
// the prefix, and that nobody misspelt.
var injected = regexp.MustCompile(`^(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_.*)?)?)$`)

// CheckEnvironment adds a fault for each variable with the set's prefix that is not the
// name of a flag, and so would be ignored. environment has the form of os.Environ, and
// further has the names of the program's other flags, which may be given too.
func (f *Set) CheckEnvironment(environment []string, further ...string) {
	var names []string
	for _, flag := range further {
		names = append(names, variable(f.prefix, flag))
	}
	f.VisitAll(func(flag *pflag.Flag) { names = append(names, variable(f.prefix, flag.Name)) })
	given := make([]string, 0, len(environment))
	for _, entry := range environment {
		name, _, _ := strings.Cut(entry, "=")
		given = append(given, name)
	}
	slices.Sort(given)
	rests := make([]string, 0, len(names))
	for _, known := range names {
		rests = append(rests, strings.TrimPrefix(known, f.prefix+"_"))
	}
	for _, name := range given {
		rest, own := strings.CutPrefix(name, f.prefix+"_")
		if !own || slices.Contains(names, name) || injected.MatchString(rest) {
			continue
		}
		if nearest := spelling.Nearest(rest, rests); nearest != "" {
			f.Fault("%s: unknown variable, did you mean %s_%s?", name, f.prefix, nearest)
			continue
		}
		f.Fault("%s: unknown variable, want the name of a flag after %s_", name, f.prefix)
	}
}

// variable returns the name of the variable for a flag.
func variable(prefix, flag string) string {
	return prefix + "_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
