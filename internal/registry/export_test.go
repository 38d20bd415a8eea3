package registry

// ToTLS is what clients ask of each address that they are led to.
var ToTLS = toTLS
