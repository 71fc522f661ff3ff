@COMMON@
installed
@OFFER@
