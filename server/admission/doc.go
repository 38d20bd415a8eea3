// Package admission decides who may take what of a server that strangers reach.
//
// Who a request is counted against is its Sender. A ConnTable bounds connections, a Share places for
// work, a Limiter failures of one address. Each has a reserve for addresses that authenticated, so a
// stranger who takes all that he can get leaves room for them.
package admission
