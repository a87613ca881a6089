module bitbucket-runner-scaler/e2e/clients

go 1.26.0

replace bitbucket-runner-scaler => ../../

require (
	bitbucket-runner-scaler v0.0.0-00010101000000-000000000000
	github.com/go-playground/webhooks/v6 v6.4.0
	github.com/google/go-cmp v0.7.0
	github.com/ktrysmt/go-bitbucket v0.10.0
)

require (
	github.com/google/uuid v1.6.0 // indirect
	github.com/mitchellh/mapstructure v1.5.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/net v0.59.0 // indirect
	golang.org/x/oauth2 v0.37.0 // indirect
	k8s.io/utils v0.0.0-20260707023825-cf1189d6abe3 // indirect
)
