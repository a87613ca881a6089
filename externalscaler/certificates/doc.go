// Package certificates secures the gRPC port. It makes the control plane's own
// certificate authority and server certificate, renews both without failing calls, and
// publishes the authority to the namespaces where KEDA and the sidecars read it.
// Alternatively it serves the user's own files.
//
// Certificates are made with client-go's util/cert and the standard library.
// cert-controller, which KEDA uses, is made for webhooks and needs
// controller-runtime's manager. Users who run cert-manager can pass its files. grpc's
// certprovider watches the files.
package certificates
