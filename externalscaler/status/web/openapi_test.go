package web_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3gen"

	"bitbucket-runner-scaler/externalscaler/status/api"
)

var update = flag.Bool("update", false, "write the description of the API anew")

const description = "../api/openapi.json"

// operation is one route of the API.
type operation struct {
	path, summary string
	value         any
	query         []*openapi3.Parameter
}

func text(name, what string) *openapi3.Parameter {
	return openapi3.NewQueryParameter(name).WithSchema(openapi3.NewStringSchema()).WithDescription(what)
}

func operations() []operation {
	group := text("group", "NAMESPACE/NAME of a runner group.")
	state := openapi3.NewQueryParameter("state").WithDescription("Only steps in this state.").
		WithSchema(openapi3.NewStringSchema().WithEnum("waiting", "expected", "held", "unserved", "running", "ended", "unknown"))
	return []operation{
		{"/installation", "What holds for the whole installation. A standby answers it too.", api.Installation{}, nil},
		{"/problems", "What a person should know or do something about, the worst first.", api.Items[api.Problem]{}, nil},
		{"/groups", "All runner groups.", api.Items[api.Group]{}, []*openapi3.Parameter{text("namespace", "Only groups of this namespace.")}},
		{"/groups/{namespace}/{name}", "One runner group.", api.Group{}, nil},
		{"/groups/{namespace}/{name}/decisions", "The last changed decisions of a group, the newest first.", api.Items[api.Decision]{}, nil},
		{"/groups/{namespace}/{name}/runners", "The runners of a group.", api.Items[api.Runner]{}, nil},
		{"/groups/{namespace}/{name}/steps", "The steps that wait for a group's runners, or run on them.", api.Items[api.Step]{}, nil},
		{"/groups/{namespace}/{name}/history", "A group's numbers over the last six hours, every 30 s.", api.Items[api.Sample]{}, nil},
		{"/decisions", "The last changed decisions of one group or of all, the newest first.", api.Items[api.Decision]{}, []*openapi3.Parameter{group}},
		{"/history", "The sums of all groups over the last six hours, every 30 s.", api.Items[api.Sample]{}, nil},
		{"/runners", "The runners of one group or of all.", api.Items[api.Runner]{}, []*openapi3.Parameter{group}},
		{
			"/steps", "The steps that wait, soon will, or run; of one build, all.", api.Items[api.Step]{},
			[]*openapi3.Parameter{group, state, text("repository", "Only steps of this repository: its slug, WORKSPACE/SLUG, or UUIDs instead."), openapi3.NewQueryParameter("build").WithSchema(openapi3.NewIntegerSchema().WithMin(1)).WithDescription("All steps of this build of the repository.")},
		},
		{"/steps/{uuid}", "One step, and why it does not run.", api.Step{}, nil},
	}
}

// TestTheDescriptionIsThatOfTheTypes makes the OpenAPI document from the types and the routes, and
// compares it with the one that is served.
func TestTheDescriptionIsThatOfTheTypes(t *testing.T) {
	schemas := openapi3.Schemas{}
	comments := comments(t)
	schemaOf := func(value any) *openapi3.SchemaRef {
		ref, err := openapi3gen.NewSchemaRefForValue(value, schemas,
			openapi3gen.CreateComponentSchemas(openapi3gen.ExportComponentSchemasOptions{ExportComponentSchemas: true, ExportTopLevelSchema: true}),
			openapi3gen.CreateTypeNameGenerator(nameOf), openapi3gen.SchemaCustomizer(strict))
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	document := &openapi3.T{
		OpenAPI: "3.0.3",
		Info: &openapi3.Info{
			Title: "bitbucket-runner-scaler", Version: "v1",
			Description: "What the scaler knows and does. It is read-only. Each answer has an ETag. With ?watch=true it is a stream of server-sent events instead: one named update for each change, with the whole answer as its data. Times are those of the scaler's clock. An absent field is empty or not known.",
		},
		Servers: openapi3.Servers{{URL: "/api/v1"}}, Components: &openapi3.Components{Schemas: schemas}, Paths: openapi3.NewPaths(),
	}
	schemaOf(api.Error{})
	for _, o := range operations() {
		operation := &openapi3.Operation{Summary: o.summary, Responses: openapi3.NewResponses()}
		operation.Responses.Delete("default")
		body := openapi3.NewContentWithJSONSchemaRef(schemaOf(o.value))
		body["text/event-stream"] = openapi3.NewMediaType().WithSchema(openapi3.NewStringSchema())
		operation.AddResponse(http.StatusOK, openapi3.NewResponse().WithDescription("the answer").WithContent(body))
		operation.AddResponse(http.StatusNotModified, openapi3.NewResponse().WithDescription("it has not changed since the ETag in If-None-Match"))
		for status, what := range map[int]string{http.StatusBadRequest: "a parameter is wrong", http.StatusNotFound: "it is not known", http.StatusServiceUnavailable: "this replica does not lead, or too many streams are open"} {
			operation.AddResponse(status, openapi3.NewResponse().WithDescription(what).WithContent(openapi3.NewContentWithJSONSchemaRef(openapi3.NewSchemaRef("#/components/schemas/Error", nil))))
		}
		for _, name := range []string{"namespace", "name", "uuid"} {
			if strings.Contains(o.path, "{"+name+"}") {
				operation.AddParameter(openapi3.NewPathParameter(name).WithSchema(openapi3.NewStringSchema()))
			}
		}
		for _, parameter := range o.query {
			operation.AddParameter(parameter)
		}
		operation.AddParameter(openapi3.NewQueryParameter("watch").WithSchema(openapi3.NewBoolSchema()).WithDescription("Answer with a stream of server-sent events."))
		document.Paths.Set(o.path, &openapi3.PathItem{Get: operation})
	}
	for name, schema := range schemas {
		describe(schema.Value, comments, name)
	}
	made, err := json.MarshalIndent(document, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if document, err = openapi3.NewLoader().LoadFromData(made); err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	made = append(made, '\n')
	if *update {
		if err := os.WriteFile(description, made, 0o644); err != nil { //nolint:gosec // it is source
			t.Fatal(err)
		}
	}
	if kept, err := os.ReadFile(description); err != nil || !bytes.Equal(kept, made) {
		t.Errorf("%s is not current (%v): run make generate", description, err)
	}
}

// nameOf names a schema. That of a list is named after its items.
func nameOf(t reflect.Type) string {
	name, item, generic := strings.Cut(t.Name(), "[")
	if !generic {
		return name
	}
	return strings.TrimSuffix(item[strings.LastIndexByte(item, '.')+1:], "]") + "List"
}

// strict makes a field required that is always there, and forbids fields that are not described.
func strict(_ string, t reflect.Type, _ reflect.StructTag, schema *openapi3.Schema) error {
	schema.Nullable = false // what is not known is absent
	if t.Kind() != reflect.Struct || t.Name() == "Time" {
		return nil
	}
	schema.AdditionalProperties = openapi3.AdditionalProperties{Has: new(bool)}
	for i := range t.NumField() {
		if name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); options == "" {
			schema.Required = append(schema.Required, name)
		}
	}
	return nil
}

// comments are the comments of the types and of their fields in package api.
func comments(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../api/api.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	line := func(group *ast.CommentGroup) string { return strings.Join(strings.Fields(group.Text()), " ") }
	ast.Inspect(file, func(n ast.Node) bool {
		declared, ok := n.(*ast.GenDecl)
		if !ok || declared.Tok != token.TYPE {
			return true
		}
		spec := declared.Specs[0].(*ast.TypeSpec) //nolint:forcetypeassert // of a type declaration
		found[spec.Name.Name] = line(declared.Doc)
		if structure, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range structure.Fields.List {
				if field.Tag != nil && field.Doc != nil {
					name, _, _ := strings.Cut(reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json"), ",")
					found[spec.Name.Name+"."+name] = line(field.Doc)
				}
			}
		}
		return true
	})
	return found
}

// describe adds the comments to a schema and its fields.
func describe(schema *openapi3.Schema, comments map[string]string, name string) {
	schema.Description = comments[strings.TrimSuffix(name, "List")]
	for field, ref := range schema.Properties {
		if ref.Ref == "" {
			ref.Value.Description = comments[name+"."+field]
		}
	}
}
