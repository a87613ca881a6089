package exit

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestReportPrintsTheErrorAndReturnsItsCode(t *testing.T) {
	plain := errors.New("plain")
	for name, c := range map[string]struct {
		err  error
		code int
		text string
	}{
		"none":               {nil, 0, ""},
		"none with a code":   {With(Unclear, nil), 0, ""},
		"no usage error":     {Usage(nil), 0, ""},
		"plain":              {plain, Failed, "p: plain\n"},
		"with a code":        {With(Unclear, plain), Unclear, "p: plain\n"},
		"wrapped with it":    {fmt.Errorf("more: %w", With(Unclear, plain)), Unclear, "p: more: plain\n"},
		"of the usage":       {Usage(plain), Unclear, "p: plain\nSee \"p c --help\".\n"},
		"a code and no text": {&Error{Code: 7}, 7, ""},
	} {
		var out strings.Builder
		if code := Report(&out, "p", "p c", c.err); code != c.code || out.String() != c.text {
			t.Errorf("%s: code %d and %q, want %d and %q", name, code, &out, c.code, c.text)
		}
	}
}
