with

products as (

    select
        product_id,
        product_number,
        product_key,
        basket_count,
        is_in_catalogue
    from {{ ref('int_products_keyed') }}

),

{% if var('pair_engine') == 'dask' %}

best as (

    select
        product_number,
        recommended_product_key,
        copurchase_count
    from {{ ref('stg_state_shortlist') }}

),

{% else %}

recommendable_products as (

    select
        product_number,
        product_key
    from products
    where is_in_catalogue

),

-- Not materialized, because the two steps below read few of these rows each.
directed as not materialized (

    {{ directed_pairs(ref('int_product_pairs_counted')) }}

),

-- Keeping the N largest numbers of a product is many times faster than ranking all its pairs, and
-- most pairs are in one basket only: they are left for the products that need them.
repeated as (

    select
        directed.product_number,
        max(
            {{ pack_rank('directed.copurchase_count', 'recommendable_products.product_key') }},
            {{ var('recommendations_per_product') }}
        ) as packed_ranks
    from directed
    inner join recommendable_products
        on directed.other_product_number = recommendable_products.product_number
    where directed.copurchase_count > 1
    group by directed.product_number

),

complete_products as (

    select product_number
    from repeated
    where len(packed_ranks) = {{ var('recommendations_per_product') }}

),

incomplete_products as (

    select products.product_number
    from products
    anti join complete_products
        on products.product_number = complete_products.product_number

),

single as (

    select
        directed.product_number,
        max(
            {{ pack_rank('directed.copurchase_count', 'recommendable_products.product_key') }},
            {{ var('recommendations_per_product') }}
        ) as packed_ranks
    from directed
    semi join incomplete_products
        on directed.product_number = incomplete_products.product_number
    inner join recommendable_products
        on directed.other_product_number = recommendable_products.product_number
    where directed.copurchase_count = 1
    group by directed.product_number

),

unnested as (

    select
        product_number,
        unnest(packed_ranks) as packed_rank
    from repeated

    union all

    select
        product_number,
        unnest(packed_ranks) as packed_rank
    from single

),

best as (

    select
        product_number,
        {{ unpack_product_key('packed_rank') }} as recommended_product_key,
        {{ unpack_copurchase_count('packed_rank') }} as copurchase_count
    from unnested

),

{% endif %}

shortlisted as (

    select
        product.product_id,
        recommended_product.product_id as recommended_product_id,
        recommended_product.basket_count as recommended_basket_count,
        best.copurchase_count
    from best
    inner join products as product
        on best.product_number = product.product_number
    inner join products as recommended_product
        on best.recommended_product_key = recommended_product.product_key

)

select * from shortlisted
