"""Words that say nothing of a text's subject: English, German, French, Spanish. In other languages TF-IDF must do."""

_WORDS = """
about above after again all also although always among and another any are because been before being
below between both but can cannot could did does doing done down during each either else even every few
for from further had has have having her here hers him his how however into its itself just least less
let like made make many may might mine more most much must neither never nor not now off often once one
only onto other others our ours out over own per quite rather same say says see seen she should since some
still such than that the their them then there these they this those though through thus too two under
until upon use used uses using very was way well were what whatever when where whether which while who whom
whose why will with within without would yes yet you your yours it's don't doesn't isn't can't

aber alle als also auch auf aus bei bis dann das dass dem den der des die dies diese dieser doch durch ein
eine einem einen einer eines für gegen hat hier ich ihr ihre ist jede kann mehr mit nach nicht noch nur
oder ohne schon sehr sein sich sie sind über und uns von vor war was wenn wie wird wir zum zur

aux avec ces cette comme dans des donc elle elles est être faire fait ils leur leurs les mais même nous
par pas plus pour que qui sans ses son sont sur tous tout très une vous

como con cuando del desde donde ella ellos entre era esta este esto hay las los más muy nos para pero por
porque que ser sin sobre son sus también todo una uno
"""
STOPWORDS = frozenset(_WORDS.split())
