# Makes packages.deb822, an invented package index: the same count gives the same bytes, on any machine.
#   awk -v count=400 -f deploy/sample/packages.awk > deploy/sample/packages.deb822
# Names are syllables counted through; everything else follows from the number by small rules, so that fields differ in
# length, some are there only sometimes, and some go on over several lines: as in a real index.
BEGIN {
    if (!count) count = 400
    split("ba de fi go hu ka le mi no pu ra se ti vo zu lo", syllable, " ")
    split("library tool server font game editor viewer daemon plugin driver", kind, " ")
    split("reading writing sorting drawing counting sending keeping finding", doing, " ")
    split("maps tables letters sounds pictures measurements calendars recipes stars trains", thing, " ")
    split("libs utils net fonts games editors graphics admin science misc", section, " ")
    split("required important standard optional optional optional", priority, " ")
    for (n = 0; n < count; n++) {
        name = word(n) "-" pick(kind, n)
        source = word(n - n % 3)
        version = n % 4 "." n % 7 "." n % 11 "-" 1 + n % 5
        print "Package: " name
        if (n % 3) print "Source: " source
        print "Version: " version
        print "Installed-Size: " 40 + n * 37 % 9000
        print "Maintainer: The " pick(section, n) " group <" pick(section, n) "@packages.example>"
        print "Architecture: " (n % 4 ? "all" : "any")
        if (n > 2) printf "Depends: %s (>= %d.0), %s | %s, libc-example\n", other(n, 1), n % 4, other(n, 2), other(n, 3)
        if (n % 5 == 0 && n > 5) print "Suggests: " other(n, 5)
        print "Description: " pick(kind, n) " for " pick(doing, n) " " pick(thing, n)
        for (i = 0; i < 3 + n % 4; i++) {
            print " This " pick(kind, n) " helps with " pick(doing, n + i) " " pick(thing, n + i) ": it takes " \
                (i + 2) * 10 " " pick(thing, n + i + 3) " at a time."
            if (i == 1) print " ."
        }
        print "Homepage: https://" word(n) ".example/"
        printf "Tag: role::%s, made-of::%s,\n use::%s\n", pick(kind, n), pick(thing, n), pick(doing, n)
        print "Section: " pick(section, n)
        print "Priority: " pick(priority, n)
        print "Filename: pool/main/" substr(name, 1, 1) "/" source "/" name "_" version ".deb"
        print "Size: " 1000 + n * 7919 % 900000
        print ""
    }
}
function pick(list, n,    size) {
    size = length(list)
    return list[n % size + 1]
}
# Four syllables: 65,536 different words; the steps spread neighbours over the alphabet.
function word(n,    text, i) {
    n = (n * 40503 + 12345) % 65536
    for (i = 0; i < 4; i++) {
        text = text syllable[n % 16 + 1]
        n = int(n / 16)
    }
    return text
}
function other(n, step) { return word(n - step) "-" pick(kind, n - step) }
