// Package page tests the scaler's page in a real Chromium: that it is readable with axe's rules of
// accessibility, on a phone, in dark colours, by keyboard and without scripts, that it updates
// itself, and that nothing in it comes from elsewhere. Each look leaves a picture.
package page
