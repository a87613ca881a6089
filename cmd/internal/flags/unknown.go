package flags

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"bitbucket-runner-scaler/cmd/internal/exit"
	"bitbucket-runner-scaler/externalscaler/runnergroup/spelling"
)

// Explain returns the error for a command line that pflag could not parse. For an unknown
// flag it suggests the nearest one.
func Explain(set *pflag.FlagSet, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return exit.Usage(err)
	}
	given, name := "--"+unknown.GetSpecifiedName(), unknown.GetSpecifiedName()
	if short := unknown.GetSpecifiedShortnames(); short != "" {
		name, _, _ = strings.Cut(short, "=")
		given = "-" + name
	}
	var names []string
	set.VisitAll(func(flag *pflag.Flag) {
		if !flag.Hidden {
			names = append(names, flag.Name)
		}
	})
	if meant := spelling.Nearest(name, names); meant != "" {
		return exit.Usage(fmt.Errorf("unknown flag %s, did you mean --%s?", given, meant))
	}
	return exit.Usage(fmt.Errorf("unknown flag %s", given))
}
